"""Errors that the user can fix, and one-line summaries of errors raised by other libraries."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # not imported: a program reads this file before it can be stopped in an orderly way
    import numpy as np

# Errors of a disk, and how to fix them.
_DISK = {
    errno.ENOSPC: "free some space, and run the same command again",
    errno.EDQUOT: "free some of your quota, and run the same command again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), and run the same command again",
    errno.EROFS: "give a place that can be written to",
    errno.EACCES: "give a place that can be written to, or change its permissions",
    errno.EPERM: "give a place that can be written to, or change its permissions",
    errno.EIO: "check the disk, and run the same command again",
}
_IN_MESSAGES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # words that mean nothing else
_LONGEST = 200


class InputError(ValueError):
    """Bad input or configuration (exit code 2).

    The message is one line that names the file, row or field and says how to fix it.

    Example:
      >>> import numpy as np, fpsset
      >>> fpsset.PlainAggregator().aggregate(np.array([[1.0, 2.0], [0.0, 0.0]]))
      Traceback (most recent call last):
        ...
      fpsset.errors.InputError: input: row 1 of 'embeddings' has length zero; leave the row out
    """


class MissingInputs(InputError):
    """Several things that a run reads are missing (exit code 2). The message is a list, an item a line."""


class DiskError(InputError):
    """A file or folder could not be written (exit code 2).

    Attributes:
      reason: the operating system's words.
      fix: what the user can do.
    """

    def __init__(self, path: object, reason: str, fix: str, kept: str = ""):
        """Names what was written, and what is `kept` nevertheless."""
        super().__init__(f"{path}: could not be written ({reason}); " + (f"{kept}; " if kept else "") + fix)
        self.reason, self.fix = reason, fix


class TrainingError(RuntimeError):
    """Training cannot continue (exit code 1). The message is one line that names the step and the cause."""


def first_line(error: Exception | str) -> str:
    """The first line of an error message, or the operating system's text for a disk error.

    Args:
      error: an exception or its message.

    Returns:
      At most 200 characters; the exception's class name when it has no message.

    Example:
      >>> first_line(ValueError("bad header\\nat byte 4"))
      'bad header'
    """
    text = str(error).strip()
    disk = next((said for said in map(os.strerror, _DISK) if said in text), None)
    return disk or (text or type(error).__name__).splitlines()[0][:_LONGEST]


def disk_problem(error: BaseException) -> tuple[str, str] | None:
    """What is wrong with the disk that an error comes from, and the fix; None for any other error.

    Args:
      error: an OSError, or another library's error with the operating system's words in its message.

    Example:
      >>> import errno
      >>> disk_problem(OSError(errno.ENOSPC, "No space left on device"))
      ('No space left on device', 'free some space, and run the same command again')
    """
    for number, fix in _DISK.items():
        if isinstance(error, OSError) and error.errno is not None:
            found = error.errno == number
        else:
            found = number in _IN_MESSAGES and os.strerror(number) in str(error)
        if found:
            return os.strerror(number), fix
    return None


def refuse_rows(bad: np.ndarray, column: str, problem: str, name: str) -> None:
    """Raises InputError if any row is bad.

    Args:
      bad: [M] bool, True for bad rows.
      column: name of the offending column.
      problem: the end of the message, after "row 3 of 'column'": what is wrong and how to fix it.
      name: where the rows come from, such as a file name.

    Raises:
      InputError: at least one row is bad. The message names the first one and counts them.
    """
    if bad.any():
        more = f" ({int(bad.sum())} such rows)" if bad.sum() > 1 else ""
        raise InputError(f"{name}: row {int(bad.argmax())} of '{column}' {problem}{more}")
