"""Lists of template pairs: IJB's text format, or the arrays of a prepared dataset."""

import pathlib
import warnings
from typing import NamedTuple

import numpy as np

from fpsset.data.columns import checked_columns
from fpsset.data.face_lists import TEXT
from fpsset.data.npz import read_npz
from fpsset.errors import InputError

_LINE = "'template template same'"


class PairList(NamedTuple):
    """P pairs of templates to compare."""

    templates: np.ndarray  # [P, 2] integer ids
    same: np.ndarray  # [P] bool, True for genuine pairs


def read_pairs(path: pathlib.Path) -> PairList:
    """Reads a list of pairs.

    Args:
      path: lines `template template same`, separated by spaces or commas, where `same` is 1 for a genuine
        pair and 0 for an impostor pair; or an `.npz` with the fields of `PairList`.

    Raises:
      InputError: the file is missing or malformed; the message names the line.
    """
    if path.suffix == ".npz":
        forms = {"templates": "iu P 2", "same": "b P"}
        fix = f"give a text file of lines {_LINE}"
        return PairList(**checked_columns(read_npz(path, PairList._fields), forms, str(path), fix))
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with path.open(errors="replace", encoding=TEXT) as file:
            delimiter = "," if "," in file.readline() else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns of an empty file, which is an error below
            rows = np.loadtxt(path, dtype=np.int64, delimiter=delimiter, ndmin=2, encoding=TEXT)
        if rows.size and rows.shape[1] != 3:
            raise ValueError(rows.shape)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: line {_bad_line(path, delimiter)} is not {_LINE}") from error
    if not rows.size:
        raise InputError(f"{path}: has no pairs; lines are {_LINE}")
    if (bad := (rows[:, 2] != 0) & (rows[:, 2] != 1)).any():
        raise InputError(f"{path}: pair {int(np.argmax(bad)) + 1}: 'same' must be 0 or 1; lines are {_LINE}")
    return PairList(rows[:, :2], rows[:, 2] == 1)


def template_places(pairs: PairList, template_ids: np.ndarray, path: pathlib.Path) -> np.ndarray:
    """Positions of the pairs' templates in `template_ids`.

    Args:
      pairs: P pairs.
      template_ids: [T] sorted ids of the templates that have faces.
      path: the list of pairs, for error messages.

    Returns:
      [P, 2] int32 positions.

    Raises:
      InputError: a pair names a template that has no faces.
    """
    places = np.minimum(np.searchsorted(template_ids, pairs.templates), len(template_ids) - 1)
    if (unknown := template_ids[places] != pairs.templates).any():
        row, column = np.unravel_index(np.argmax(unknown), unknown.shape)
        raise InputError(
            f"{path}: pair {row + 1} names template {pairs.templates[row, column]}, which has no faces in "
            f"the features; lines are {_LINE}"
        )
    return places.astype(np.int32)


def _bad_line(path: pathlib.Path, delimiter: str | None) -> int:
    """The number of the first line that is not three integers."""
    with path.open(errors="replace", encoding=TEXT) as lines:
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            try:
                if text and np.array(text.split(delimiter), np.int64).shape != (3,):
                    return number
            except (ValueError, OverflowError):
                return number
    return number
