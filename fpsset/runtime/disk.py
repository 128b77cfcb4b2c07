"""Full and read-only disks: one line that names what could not be written, what is kept, and the fix."""

import contextlib
import functools
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator

from fpsset.errors import DiskError, disk_problem

_TRIES, _PAUSES, _PAUSE_SECONDS = 40, 4, 0.05


@contextlib.contextmanager
def writing(path: str | os.PathLike, kept: str = "") -> Iterator[None]:
    """Turns errors of the disk inside the block, which writes `path`, into a DiskError.

    The outermost of nested blocks is the one that the error names.

    Args:
      path: file or folder, as the user knows it.
      kept: what is kept nevertheless, e.g. 'the file from before is kept'.

    Raises:
      DiskError: the disk is full or cannot be written to.
    """
    try:
        yield
    except DiskError as error:
        raise DiskError(path, error.reason, error.fix, kept) from error
    except Exception as error:  # libraries wrap the operating system's errors in many types
        problem = disk_problem(error)
        if problem is None or _is_of_another(path, error):
            raise
        raise DiskError(path, *problem, kept) from error


def kept_on_error(what: str) -> Callable[[Callable], Callable]:
    """Decorates a context manager that replaces a path: a disk's errors name the path, and say what is kept.

    Args:
      what: 'file' or 'folder'.
    """

    def decorate(replace: Callable) -> Callable:
        @functools.wraps(replace)
        @contextlib.contextmanager
        def wrapped(path, *arguments, **options):
            kept = f"the {what} that was there is kept" if _exists(path) else ""
            with writing(path, kept), replace(path, *arguments, **options) as beside:
                yield beside

        return wrapped

    return decorate


def remove_tree(folder: pathlib.Path) -> None:
    """Removes a folder, which threads of a write that failed may create again for a moment; never a link."""
    gone = _PAUSES if not folder.exists() else 0
    for _ in range(_TRIES):
        if gone == _PAUSES or folder.is_symlink():
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(_PAUSE_SECONDS)
        gone = 0 if folder.exists() else gone + 1


def _is_of_another(path, error: Exception) -> bool:
    """Whether an error is about a file elsewhere, such as one that cannot be read."""
    named = getattr(error, "filename", None)
    folder = os.path.dirname(os.path.abspath(path))
    return isinstance(named, str) and not os.path.abspath(named).startswith(folder)


def _exists(path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
