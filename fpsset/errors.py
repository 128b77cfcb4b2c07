"""Errors that the user can fix, and one-line summaries of errors raised by other libraries."""

import errno
import os

import numpy as np

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
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
        raise InputError(f"{name}: row {int(np.argmax(bad))} of '{column}' {problem}{more}")
