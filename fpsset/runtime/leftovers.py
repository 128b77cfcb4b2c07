"""Temporary names beside a target, and what killed processes left under such names."""

import os
import pathlib
import re
import secrets
import socket
import time

from fpsset.runtime.digests import short_digest

_HOST = short_digest(socket.gethostname())[:8]  # folders may be shared between machines
_STALE_SECONDS = 24 * 3600  # of what another machine left, whose processes are not known here
_STEM = 40  # characters of the target's name: names have at most 255 bytes
_ours: set[str] = set()  # given out by this process


def name_beside(path: pathlib.Path, kind: str) -> pathlib.Path:
    """A hidden name beside `path`, of the same suffix, that nobody can guess.

    Args:
      path: the target, possibly in a bucket.
      kind: a word for what is kept under the name.

    Example:
      >>> name = name_beside(pathlib.Path("F.npz"), "part").name
      >>> name.startswith(".F.part-"), name.endswith(".npz")
      (True, True)
    """
    name = f".{path.stem[:_STEM]}.{kind}-{_HOST}-{os.getpid()}-{secrets.token_hex(8)}{path.suffix}"
    _ours.add(name)
    return path.with_name(name)


def leftovers(path: pathlib.Path, kind: str) -> list[pathlib.Path]:
    """What processes that have died left beside `path` under names of `name_beside`.

    That is the user's own, and of a process that runs no more; of other machines what is a day old.
    """
    stem, suffix = re.escape(path.stem[:_STEM]), re.escape(path.suffix)
    pattern = re.compile(rf"\.{stem}\.{kind}-([0-9a-f]{{8}})-([0-9]{{1,10}})-[0-9a-f]{{16}}{suffix}")
    found = []
    with os.scandir(path.parent) as entries:
        for entry in entries:
            match = pattern.fullmatch(entry.name)
            if not match or entry.name in _ours:
                continue
            try:
                state = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # another process was faster
                continue
            here, stale = match[1] == _HOST, time.time() - state.st_mtime > _STALE_SECONDS
            if state.st_uid == os.getuid() and (not _runs(int(match[2])) if here else stale):
                found.append(path.with_name(entry.name))
    return found


def _runs(pid: int) -> bool:
    """Whether another process has this id."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
