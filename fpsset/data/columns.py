"""Checks the columns of files that fpsset writes for itself: their dtypes, shapes and values."""

from collections.abc import Mapping

import numpy as np

from fpsset.errors import InputError, refuse_rows

_WORDS = {"f": "floats", "iu": "integers", "U": "strings", "b": "bools", "iuU": "integers or strings"}


def checked_columns(
    columns: Mapping[str, np.ndarray], wanted: Mapping[str, str], name: str, fix: str, **sizes: int
) -> dict[str, np.ndarray]:
    """The wanted columns, checked.

    Args:
      columns: arrays by name; others than those wanted are ignored.
      wanted: for each column its kind of dtype and its axes, e.g. 'f M D': 'f' for finite floats, 'f-' for
        floats that may be -inf, 'iu', 'U', 'b' or 'iuU'; then a number or a letter for each axis. A letter
        stands for the same size in all columns.
      name: where the columns come from, for messages.
      fix: the end of messages.
      **sizes: sizes of letters that are known beforehand.

    Returns:
      The wanted columns, with their dtypes as they are.

    Raises:
      InputError: a column is missing or has another dtype or shape, or a value is not finite.

    Example:
      >>> import numpy as np
      >>> checked_columns({"norms": np.ones((2, 1))}, {"norms": "f M"}, "part.npz", "make it again")
      Traceback (most recent call last):
        ...
      fpsset.errors.InputError: part.npz: 'norms' must be floats [M]; it is float64 [2, 1]; make it again
    """
    found = {}
    for column, form in wanted.items():
        if column not in columns:
            raise InputError(f"{name}: no column '{column}'; {fix}")
        kind, *axes = form.split()
        values, before = np.asarray(columns[column]), dict(sizes)
        fits = values.dtype.kind in kind and values.ndim == len(axes)
        for axis, size in zip(axes, values.shape, strict=False):
            fits = fits and size == (int(axis) if axis.isdigit() else sizes.setdefault(axis, size))
        if not fits:
            shape = ", ".join(str(before.get(axis, axis)) for axis in axes)
            raise InputError(
                f"{name}: '{column}' must be {_WORDS[kind.rstrip('-')]} [{shape}]; it is {values.dtype} "
                f"{list(values.shape)}; {fix}"
            )
        if kind[0] == "f" and values.size:
            bad = ~(np.isfinite(values) | ((values == -np.inf) if kind == "f-" else False))
            bad = bad.reshape(values.shape[0] if values.ndim else 1, -1).any(axis=1)
            refuse_rows(bad, column, f"is not finite; {fix}", name)
        found[column] = values
    return found
