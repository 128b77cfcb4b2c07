"""Atomic writing of files and folders, so that readers never see a partial one, and reading of JSON."""

import codecs
import contextlib
import errno
import json
import math
import os
import pathlib
import shutil
import stat
from collections.abc import Iterator

from fpsset.errors import InputError, first_line
from fpsset.runtime.digests import seal
from fpsset.runtime.disk import kept_on_error, remove_tree
from fpsset.runtime.leftovers import leftovers, name_beside

_PART, _OLD = "part", "old"


def as_path(path: str | os.PathLike, absolute: bool = False):
    """A pathlib.Path, made absolute on request; for a bucket (gs://...) the equivalent etils path."""
    if "://" not in str(path):
        return pathlib.Path(path).absolute() if absolute else pathlib.Path(path)
    from etils import epath

    return epath.Path(path)


@kept_on_error("file")
@contextlib.contextmanager
def replacing(path: pathlib.Path, private: bool = False) -> Iterator[pathlib.Path]:
    """Yields an empty temporary file beside `path` to write to; it replaces `path` if the block succeeds.

    Its name cannot be guessed, so that nobody who may write to the folder can put a link in its place. What
    earlier processes left there when they were killed is removed.

    Args:
      path: file to write, possibly in a bucket; its folder is created if missing.
      private: whether a new file is for its owner alone, because it tells of faces. One that is replaced
        keeps its permissions.

    Raises:
      InputError: the disk is full, or the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = name_beside(path, _PART)
    if not isinstance(path, pathlib.Path):  # a bucket, where a file appears when it is complete
        try:
            yield beside
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        return
    for leftover in leftovers(path, _PART):
        leftover.unlink(missing_ok=True)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with _nothing_in_the_way(path, beside):
            os.close(os.open(beside, flags, 0o600 if private else 0o666))
        yield beside
        _keep_mode(path, beside)
        _flush(beside)
        os.replace(beside, path)
        _flush(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@kept_on_error("folder")
@contextlib.contextmanager
def replacing_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields an empty temporary folder beside `path`; it replaces `path` if the block succeeds.

    Args:
      path: folder to write; its parent is created if missing.

    Raises:
      InputError: see `replacing`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(leftovers(path, _OLD), key=lambda old: old.stat().st_mtime, reverse=True):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:  # an earlier process died between the two renames below
            os.replace(old, path)
    for leftover in leftovers(path, _PART):
        shutil.rmtree(leftover, ignore_errors=True)
    beside, old = name_beside(path, _PART), name_beside(path, _OLD)
    try:
        with _nothing_in_the_way(path, beside):
            beside.mkdir()
        yield beside
        _keep_mode(path, beside)
        flush_tree(beside)
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(beside, path)
        except BaseException:
            if old.exists():
                os.replace(old, path)
            raise
        _flush(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        remove_tree(beside)


@contextlib.contextmanager
def _nothing_in_the_way(path: pathlib.Path, beside: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise InputError(
            f"{path}: could not be written ({error.strerror}: {beside.name}); somebody guessed that name: "
            "remove it, and run the same command again"
        ) from error


def _keep_mode(path: pathlib.Path, beside: pathlib.Path) -> None:
    """Gives what is beside `path` the permissions of what it replaces; a link has none of its own."""
    if path.exists() and not path.is_symlink():
        beside.chmod(stat.S_IMODE(path.stat().st_mode))


def flush_tree(root: pathlib.Path) -> None:
    """Waits until a folder on this machine and all that is in it are on the disk."""
    for folder, _, names in os.walk(root):
        for name in (*names, ""):
            _flush(pathlib.Path(folder, name))


def _flush(path: pathlib.Path) -> None:
    """Waits until a file or folder is on the disk, where the file system can tell."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # a link, or a file that may only be written
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # not for folders everywhere
            raise
    finally:
        os.close(handle)


def write_json(path: pathlib.Path, value, sealed: bool = False, private: bool = False) -> None:
    """Writes a value as indented JSON.

    Args:
      path: file to write.
      value: without NaN and infinity.
      sealed: whether to add a seal to `value`, which is a dict then; see `fpsset.runtime.digests.seal`.
      private: see `replacing`.

    Raises:
      ValueError: the value contains NaN or infinity.
    """
    value = seal(value) if sealed else value
    with replacing(path, private) as beside:
        beside.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: pathlib.Path, fix: str, kind: type = dict):
    """Reads a JSON file, whatever bytes it holds.

    Args:
      path: the file, possibly in a bucket.
      fix: how to mend it, for the message; e.g. "calibrate again".
      kind: type of the value in the file.

    Raises:
      InputError: the file is missing or unreadable, or holds anything else; see `parse_json`.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read as JSON ({error.strerror or first_line(error)}); {fix}"
        ) from error
    return parse_json(text, str(path), fix, kind)


def parse_json(text: str | bytes, name: str, fix: str, kind: type = dict):
    """Parses strict JSON: numbers are finite, and no key is given twice.

    Args:
      text: as UTF-8 if bytes.
      name: where it comes from, for the message.
      fix: see `read_json`.
      kind: see `read_json`.

    Raises:
      InputError: the text is not JSON in UTF-8, is nested too deeply, or holds NaN, infinity, an integer of
        thousands of digits, a repeated key, or a value of another kind.

    Example:
      >>> parse_json('{"threshold": NaN}', "a.json", "calibrate again")
      Traceback (most recent call last):
        ...
      fpsset.errors.InputError: a.json: cannot be read as JSON (holds NaN); calibrate again
    """
    try:
        text = text.removeprefix(codecs.BOM_UTF8).decode() if isinstance(text, bytes) else text
        value = json.loads(
            text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_without_repeats
        )
    except RecursionError as error:
        raise InputError(f"{name}: cannot be read as JSON (is nested too deeply); {fix}") from error
    except ValueError as error:  # UnicodeDecodeError too
        raise InputError(f"{name}: cannot be read as JSON ({first_line(error)}); {fix}") from error
    if not isinstance(value, kind):
        found = type(value).__name__
        raise InputError(f"{name}: cannot be read as JSON (is a {found}, not a {kind.__name__}); {fix}")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"holds {text}")
    return number


def _without_repeats(pairs: list[tuple]) -> dict:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"holds {next(name for name in names if names.count(name) > 1)!r} twice")
    return fields
