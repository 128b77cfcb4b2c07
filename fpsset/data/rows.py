"""Checks rows of faces, wherever they come from, and scales their embeddings to unit length."""

import numpy as np

from fpsset.errors import InputError, refuse_rows

MAX_NORM = 1e10  # squares of sums over millions of faces still fit float32
_ROWS_AT_ONCE = 1 << 14
_NORMALISED = 5e-3  # rounding error of the length of a unit row in float16


def unit_rows(
    embeddings: np.ndarray, norms: np.ndarray | None, name: str, column: str = "embeddings"
) -> tuple[np.ndarray, np.ndarray]:
    """Checks embeddings and norms, and scales the embeddings to unit length.

    Args:
      embeddings: [M, D] float rows of any length but zero.
      norms: [M] or [M, 1] numbers, in 0 ... `MAX_NORM`; the lengths of the embeddings when None.
      name: where the rows come from, for error messages.
      column: what the embeddings are called there.

    Returns:
      ([M, D] float32 unit rows, [M] float32 norms).

    Raises:
      InputError: the arrays are malformed; a row is zero, not finite or has a norm out of range (the message
        names it); or `norms` is None although all embeddings have length 1.
    """
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or embeddings.dtype.kind != "f" or 0 in embeddings.shape:
        raise InputError(
            f"{name}: '{column}' must be float [M, D] with at least one row; "
            f"it is {embeddings.dtype} {list(embeddings.shape)}"
        )
    # Divide by the largest entry first: squaring a very large or small float32 overflows or underflows.
    largest = np.maximum(embeddings.max(axis=1, keepdims=True), -embeddings.min(axis=1, keepdims=True))
    finite = np.isfinite(largest[:, 0])
    refuse_rows(~finite, column, "holds a value that is not finite; leave the row out", name)
    refuse_rows(largest[:, 0] == 0, column, "has length zero; leave the row out", name)
    wide = np.promote_types(embeddings.dtype, np.float32)
    unit, lengths = np.empty(embeddings.shape, np.float32), np.empty(len(embeddings), wide)
    for start in range(0, len(unit), _ROWS_AT_ONCE):  # temporaries of all rows at once would take gigabytes
        part = slice(start, start + _ROWS_AT_ONCE)
        unit[part] = embeddings[part].astype(wide) / largest[part]
        scaled = np.linalg.norm(unit[part], axis=1, keepdims=True)
        unit[part] /= scaled
        lengths[part] = (scaled * largest[part].astype(wide))[:, 0]
    if norms is None:
        if np.abs(lengths - 1).max() < _NORMALISED:
            raise InputError(
                f"{name}: all embeddings have length 1, so their norms were lost when they were normalised; "
                "pass their original norms, or ones to weight all faces equally"
            )
        norms = lengths
    norms = checked_column(norms, "norms", "fiu", len(embeddings), name)
    norms = norms.astype(np.promote_types(norms.dtype, np.float32), copy=False)  # float16 ends at 65,504
    refuse_rows(~np.isfinite(norms), "norms", "is not finite; leave the row out", name)
    refuse_rows(norms > MAX_NORM, "norms", f"is above {MAX_NORM:g}; divide all norms by a number", name)
    refuse_rows(norms < 0, "norms", "is negative; pass the embedding's length, which is never negative", name)
    return unit, norms.astype(np.float32)


def checked_ids(values, column: str, rows: int, name: str) -> np.ndarray:
    """Checks a column of integers: [M] int64.

    Args:
      values: [M] or [M, 1] integers below 2^63.
      column: the column's name.
      rows: M.
      name: where the table comes from, for error messages.

    Raises:
      InputError: see `checked_column`; or a value is 2^63 or more.
    """
    ids = checked_column(values, column, "iu", rows, name)
    if ids.dtype.kind == "u":
        refuse_rows(ids > np.iinfo(np.int64).max, column, "is 2^63 or more; give it a smaller number", name)
    return ids.astype(np.int64)


def numbered_ids(
    values, column: str, rows: int, name: str, unknown: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Checks a column of integers or strings, and numbers the strings.

    Args:
      values, column, rows, name: see `checked_ids`; strings are allowed.
      unknown: the number of the empty string.

    Returns:
      ([M] int64; the sorted strings that the numbers stand for, None for a column of integers).

    Raises:
      InputError: see `checked_ids`.
    """
    values = checked_column(values, column, "iuU", rows, name)
    if values.dtype.kind != "U":
        return checked_ids(values, column, rows, name), None
    labels, codes = np.unique(values, return_inverse=True)
    if labels[0] == "":
        labels, codes = labels[1:], np.where(codes == 0, unknown, codes - 1)
    return codes.astype(np.int64), labels


def checked_column(values, column: str, kinds: str, rows: int, name: str) -> np.ndarray:
    """Checks the dtype and length of one column of a table of faces.

    Args:
      values: [M] or [M, 1].
      column: the column's name.
      kinds: accepted kinds of NumPy dtype: 'fiu' for numbers, 'iu' for integers, 'U' for strings, 'iuU' for
        either.
      rows: M.
      name: where the table comes from, for error messages.

    Returns:
      [M].

    Raises:
      InputError: the column has another kind of dtype, or another length.
    """
    given = values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in kinds:
        words = {
            "f": "floats",
            "fiu": "numbers",
            "iu": "integers",
            "U": "strings",
            "iuU": "integers or strings",
        }[kinds]
        raise InputError(f"{name}: '{column}' must be [M] {words}; it is {given.dtype} {list(given.shape)}")
    if len(values) != rows:
        raise InputError(f"{name}: '{column}' has {len(values)} rows but 'embeddings' has {rows}")
    return values
