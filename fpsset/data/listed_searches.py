"""1:N protocols by their official lists: which faces form each template, and which searches there are."""

from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.errors import InputError
from fpsset.face_set import RaggedSets


class Task(NamedTuple):
    """One search: probes in galleries, as numbers of templates."""

    galleries: dict[str, np.ndarray]  # name -> [G] int64
    probes: np.ndarray  # [P] int64


class ListedSearches(NamedTuple):
    """The searches of a protocol over T templates, of which some may have no face.

    Attributes:
      name: of the protocol.
      subjects: [T] int64; `UNKNOWN_SUBJECT` for distractors.
      sets: T sets, those without faces empty.
      tasks: by name, in the protocol's order.
      ranks: at which identification rates are given.
      mean_precision: whether the protocol gives the mean average precision.
      end_to_end: whether probes without faces count as missed in a rate of their own.
    """

    name: str
    subjects: np.ndarray
    sets: RaggedSets
    tasks: dict[str, Task]
    ranks: tuple[int, ...]
    mean_precision: bool = False
    end_to_end: bool = False


def sets_of(table: FeatureTable, rows: list[np.ndarray], media: np.ndarray | None = None) -> RaggedSets:
    """Sets over a table, given the rows of each: a face may be in several, and a set may be empty.

    Args:
      table: M faces.
      rows: of each set.
      media: [M] int64; those of the table when None.
    """
    starts = np.cumsum([0, *map(len, rows)])
    flat = np.concatenate([np.empty(0, np.int64), *rows]).astype(np.int64)
    return RaggedSets(
        table.embeddings, table.norms, table.media if media is None else media, flat, starts.astype(np.int64)
    )


def paths_of(table: FeatureTable, form: str) -> list[str]:
    """The images' paths; raises InputError without them, saying in which `form` they are needed."""
    if table.paths is None:
        raise InputError(
            f"{table.name}: no column 'paths', by which the lists identify faces; extract again, so that it "
            f"has paths like {form}"
        )
    return [path.replace("\\", "/") for path in table.paths.tolist()]
