"""A folder of finished parts beside a file that is being made, so that the work can be interrupted."""

import pathlib
import shutil

from fpsset.runtime.disk import writing

_OWNER = "of"  # a file that says what the parts are made from


def file_state(path: pathlib.Path, name: str) -> str:
    """A line that changes when a file does: its name, size and time."""
    try:
        stat = path.stat()
    except OSError:
        return f"{name} missing\n"
    return f"{name} {stat.st_size} {stat.st_mtime_ns}\n"


def claimed_by(folder: pathlib.Path) -> str:
    """What the parts in a folder are made from; empty if there is no such folder."""
    try:
        return (folder / _OWNER).read_text(errors="replace")
    except OSError:
        return ""


def claim(folder: pathlib.Path, fingerprint: str, out: pathlib.Path) -> bool:
    """Makes a folder for parts, or empties it if its parts were made from something else.

    Args:
      folder: of the parts.
      fingerprint: of everything that they depend on.
      out: the file that is being made, for errors.

    Returns:
      Whether there were parts of the same fingerprint.

    Raises:
      InputError: the disk is full.
    """
    if claimed_by(folder) == fingerprint:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    with writing(out):
        folder.mkdir(parents=True, mode=0o700)
        (folder / _OWNER).write_text(fingerprint)
    return False
