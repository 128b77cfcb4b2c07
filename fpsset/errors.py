"""Errors with a cause that the user can fix, and one-line texts of those that other libraries raise."""

import errno
import os

import numpy as np

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
_LONGEST = 200


class InputError(ValueError):
    """Bad input or configuration: one line that names the file, row or field and the fix (exit code 2).

    Example:
      >>> import numpy as np, fpsset
      >>> fpsset.PlainAggregator().aggregate(np.array([[1.0, 2.0], [0.0, 0.0]]))
      Traceback (most recent call last):
        ...
      fpsset.errors.InputError: input: row 1 of 'embeddings' has length zero; leave the row out
    """


class TrainingError(RuntimeError):
    """Training cannot go on: one line that names the step and the cause (exit code 1)."""


def first_line(error: Exception | str) -> str:
    """The first line of an error; where it comes from the disk, what the system says of it.

    >>> first_line(ValueError("bad header\\nat byte 4"))
    'bad header'
    """
    text = str(error).strip()
    disk = next((said for said in map(os.strerror, _DISK) if said in text), None)
    return disk or (text or type(error).__name__).splitlines()[0][:_LONGEST]


def refuse_rows(bad: np.ndarray, column: str, problem: str, name: str) -> None:
    """Raises InputError that names the first bad row and how many there are; returns where none is bad.

    Args:
      bad: [M] bool.
      column: the column that is at fault.
      problem: what is wrong with the row, to follow its name.
      name: where the rows come from.
    """
    if bad.any():
        more = f" ({int(bad.sum())} such rows)" if bad.sum() > 1 else ""
        raise InputError(f"{name}: row {int(np.argmax(bad))} of '{column}' {problem}{more}")
