"""Which faces in a person's photos and videos are that person's: those most like each other."""

from typing import NamedTuple

import numpy as np

from fpsset.images.tracks import APART

_ROUNDS = 10
_ROWS_AT_ONCE = 512


class Candidates(NamedTuple):
    """G candidates: the faces of photos, and the tracks of videos.

    Attributes:
      vectors: [G, D] float32 unit rows.
      weights: [G] float32 > 0, e.g. norms.
      place: [G] int64: candidates of one photo share one, of which at most one is the person. Each track has
        its own.
      alone: [G] bool, whether it is the only face of a photo.
      faces: [G] int, how many faces each has.
      area: [G] float32, pixels of the largest.
      clashes: pairs (g, h) of tracks that are seen at one time, so not both the person.
    """

    vectors: np.ndarray
    weights: np.ndarray
    place: np.ndarray
    alone: np.ndarray
    faces: np.ndarray
    area: np.ndarray
    clashes: list[tuple[int, int]]


def choose_person(found: Candidates) -> np.ndarray:
    """The candidates that show the person whom most of the photos and videos show.

    The first is the candidate that has the most similar ones in all other places; the mean of those chosen
    then chooses again, until nothing changes. A face that is alone in its photo is chosen whatever it looks
    like, since the user says whom the photo shows; elsewhere nobody is chosen who looks like someone else.

    Args:
      found: the candidates.

    Returns:
      [G] bool.
    """
    count = len(found.weights)
    if count == 0:
        return np.zeros(0, bool)
    support = _support(found)
    seed = np.lexsort((found.area, found.faces, support))[-1]
    chosen = _most_like(found, found.vectors[seed])
    for _ in range(_ROUNDS):
        weighed = found.vectors[chosen] * found.weights[chosen, None]
        mean = weighed.sum(axis=0)
        again = _most_like(found, mean / max(np.linalg.norm(mean), 1e-12))
        if (again == chosen).all() or not again.any():
            break
        chosen = again
    return chosen


def _support(found: Candidates) -> np.ndarray:
    """[G] sum over all other places of the cosine to the most similar candidate there, if positive."""
    order = np.argsort(found.place, kind="stable")
    place = found.place[order]
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    support = np.zeros(len(place), np.float32)
    for start in range(0, len(place), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        best = np.maximum.reduceat(found.vectors[rows] @ found.vectors[order].T, starts, axis=1)
        best[place[starts] == found.place[rows, None]] = 0
        support[rows] = np.maximum(best, 0).sum(axis=1)
    return support


def _most_like(found: Candidates, person: np.ndarray) -> np.ndarray:
    cosine = found.vectors @ person
    clash: dict[int, list[int]] = {}
    for g, h in found.clashes:
        clash.setdefault(g, []).append(h)
        clash.setdefault(h, []).append(g)
    chosen, taken = np.zeros(len(cosine), bool), set()
    for g in np.argsort(-cosine, kind="stable").tolist():
        if found.place[g] in taken or any(chosen[h] for h in clash.get(g, ())):
            continue
        if cosine[g] >= APART or found.alone[g]:
            chosen[g] = True
            taken.add(int(found.place[g]))
    return chosen
