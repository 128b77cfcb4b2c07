"""What the faces of a training file say about each other: each face beside its person's other media."""

from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.errors import InputError

_ROWS = 1 << 18  # faces that suffice for the estimates


class Neighbourhood(NamedTuple):
    """Faces whose person has other media, and the mean direction of those media."""

    faces: FeatureTable  # m rows
    center: np.ndarray  # [m, D] float32 unit; faces of the other media, weighted by a power of the norm
    cosine: np.ndarray  # [m] float32, of each face to it


def neighbourhood(table: FeatureTable, power: float = 3.0) -> Neighbourhood:
    """Pairs each face with the mean of its person's other media.

    Args:
      table: faces, norms scaled; rows with the same seed count as one medium.
      power: of the norm, by which the other media's faces are weighted.

    Raises:
      InputError: no person has two media.
    """
    person, medium = person_and_medium(table)
    media = np.bincount(person[np.unique(medium, return_index=True)[1]])
    known = (media[person] > 1) & (table.norms > 0)
    if not known.any():
        raise InputError(
            f"{table.name}: no person has two media, so nothing can be learned from it in closed form; give "
            "people with several, or train from random weights: --config.model.name=face_coreset_net "
            "--config.model.init=random"
        )
    weighted = table.embeddings * table.norms[:, None] ** np.float32(power)
    others = (group_sums(weighted, person)[person] - group_sums(weighted, medium)[medium])[known]
    faces = table.take(known)
    center = others / np.maximum(np.linalg.norm(others, axis=1, keepdims=True), 1e-12)
    return Neighbourhood(faces, center, np.einsum("md,md->m", faces.embeddings, center))


def norm_signal(table: FeatureTable) -> float:
    """How far norms tell the quality of faces.

    Spearman's rank correlation of the norm with the cosine to the plain mean of the person's other media:
    about .6 for a recogniser whose norm rises with quality, 0 where norms are all alike or say nothing.

    Args:
      table: see `neighbourhood`.
    """
    if not np.ptp(table.norms):  # of which zero norms, which have no neighbourhood, are a case
        return 0.0
    near = neighbourhood(table, power=0.0)
    norms = near.faces.norms
    if not np.ptp(norms) or not np.ptp(near.cosine):
        return 0.0
    return float(np.corrcoef(_ranks(norms), _ranks(near.cosine))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of values, the mean of theirs for those that are equal."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[codes]


def person_and_medium(table: FeatureTable) -> tuple[np.ndarray, np.ndarray]:
    """([M] person, [M] medium), numbered from 0; a medium belongs to one person."""
    person = np.unique(table.subject, return_inverse=True)[1]
    medium = np.unique(np.stack([person, table.sources]), axis=1, return_inverse=True)[1].reshape(-1)
    return person, medium


def some_people(table: FeatureTable) -> FeatureTable:
    """All faces of as many people as have about 260,000 faces together."""
    if len(table) <= _ROWS:
        return table
    people = np.unique(table.subject)
    kept = np.random.default_rng(0).permutation(people)[: max(2, len(people) * _ROWS // len(table))]
    return table.take(np.isin(table.subject, kept))


def group_sums(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sum of the rows of each group: [M, D], [M] int -> [G, D]."""
    if (groups[1:] < groups[:-1]).any():  # else they are in order, as in most files
        order = np.argsort(groups, kind="stable")
        rows, groups = rows[order], groups[order]
    return np.add.reduceat(rows, np.flatnonzero(np.diff(groups, prepend=-1)), axis=0)


def scatter(rows: np.ndarray) -> np.ndarray:
    """[m, D] -> [D, D] float64, their second moments, scaled to a mean eigenvalue of 1."""
    moments = (rows.T @ rows).astype(np.float64)
    return moments / max(np.trace(moments) / len(moments), 1e-12)  # the trace is zero if all rows are


def inverse_root(moments: np.ndarray, shrinkage: float) -> np.ndarray:
    """[D, D] -> [D, D] symmetric, S^(-1/2) of moments shrunk towards the identity by a share in [0, 1]."""
    values, vectors = np.linalg.eigh((1 - shrinkage) * moments + shrinkage * np.eye(len(moments)))
    return (vectors / np.sqrt(values)) @ vectors.T
