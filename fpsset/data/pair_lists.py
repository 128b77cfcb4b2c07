"""Lists of pairs of templates: lines as IJB has them, or the arrays of a prepared dataset."""

import pathlib
import warnings
from typing import NamedTuple

import numpy as np

from fpsset.data.files import read_npz
from fpsset.errors import InputError

_LINE = "'template template same'"


class PairList(NamedTuple):
    """P pairs of templates."""

    templates: np.ndarray  # [P, 2] integer ids
    same: np.ndarray  # [P] bool, True for a genuine pair


def read_pairs(path: pathlib.Path) -> PairList:
    """Reads a list.

    Args:
      path: lines `template template same`, columns apart by blanks or commas, `same` 1 for a genuine pair
        and 0 for an impostor one; or an `.npz` of the columns of `PairList`.

    Raises:
      InputError: it is missing or malformed; the line is named.
    """
    if path.suffix == ".npz":
        columns = read_npz(path, PairList._fields)
        if set(columns) != set(PairList._fields):
            raise InputError(f"{path}: holds no pairs; give a list of lines {_LINE}")
        return PairList(**columns)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with path.open(errors="replace") as file:
        delimiter = "," if "," in file.readline() else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty file is reported below
            rows = np.loadtxt(path, dtype=np.int64, delimiter=delimiter, ndmin=2)
        if rows.size and rows.shape[1] != 3:
            raise ValueError(rows.shape)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: line {_bad_line(path, delimiter)} is no {_LINE}") from error
    if not rows.size:
        raise InputError(f"{path}: holds no pair; lines are {_LINE}")
    if (odd := (rows[:, 2] != 0) & (rows[:, 2] != 1)).any():
        raise InputError(f"{path}: pair {int(np.argmax(odd)) + 1}: 'same' must be 0 or 1; lines are {_LINE}")
    return PairList(rows[:, :2], rows[:, 2] == 1)


def template_places(pairs: PairList, template_ids: np.ndarray, path: pathlib.Path) -> np.ndarray:
    """Positions of the pairs' templates among those that have faces.

    Args:
      pairs: P pairs.
      template_ids: [T] sorted ids.
      path: of the pairs, for messages.

    Returns:
      [P, 2] int32.

    Raises:
      InputError: a template is not among them.
    """
    places = np.minimum(np.searchsorted(template_ids, pairs.templates), len(template_ids) - 1)
    if (unknown := template_ids[places] != pairs.templates).any():
        row, column = np.unravel_index(np.argmax(unknown), unknown.shape)
        raise InputError(
            f"{path}: pair {row + 1} names a template the features do not hold, "
            f"{pairs.templates[row, column]}; lines are {_LINE}"
        )
    return places.astype(np.int32)


def _bad_line(path: pathlib.Path, delimiter: str | None) -> int:
    """The number of the first line that is no three integers."""
    with path.open(errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            try:
                if text and np.array(text.split(delimiter), np.int64).shape != (3,):
                    return number
            except (ValueError, OverflowError):
                return number
    return number
