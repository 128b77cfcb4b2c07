"""Labelled probes against a gallery: the scores that thresholds are found from."""

import math
from typing import NamedTuple

import numpy as np

from fpsset.people.gallery import Gallery
from fpsset.people.search import ExactSearch

_ALL = -1


class Probes(NamedTuple):
    """Q labelled sets of faces.

    Attributes:
      vectors: [Q, D] float32 descriptors.
      names: Q names of people, in the gallery or not.
      sizes: [Q] int64, faces in each.
      quality: [Q] float32, the mean norm of each set's faces.
    """

    vectors: np.ndarray
    names: list[str]
    sizes: np.ndarray
    quality: np.ndarray


class Trials(NamedTuple):
    """Scores of Q probes against P people.

    Attributes:
      mate: [Q] score with the probe's own person, -inf where that one is not in the gallery.
      top: [Q] highest score with anybody else; -inf where there is nobody else.
      others: [Q] int64, how many people are not the probe's own.
      best: [B] float32, the highest scores with others, descending.
      owners: [B] int64, the probe of each.
      by_group: the highest scores with others of each group's probes, descending.
    """

    mate: np.ndarray
    top: np.ndarray
    others: np.ndarray
    best: np.ndarray
    owners: np.ndarray
    by_group: dict[int, np.ndarray]


def run_trials(gallery: Gallery, probes: Probes, rate: float, groups: np.ndarray | None = None) -> Trials:
    """Scores all probes with everybody.

    Args:
      gallery: P people.
      probes: Q of them.
      rate: highest false accept rate that a threshold is wanted for; as many impostor scores are kept.
      groups: [Q] int, groups of probes for which thresholds are wanted too; None: only for all together.
    """
    number = {name: place for place, name in enumerate(gallery.names.tolist())}
    own = np.array([number.get(name, -1) for name in probes.names])
    groups = np.zeros(len(own), np.int64) if groups is None else groups
    others = len(gallery.names) - (own >= 0)
    wanted = {_ALL: math.ceil(rate * others.sum()) + 1}
    wanted |= {g: math.ceil(rate * others[groups == g].sum()) + 1 for g in np.unique(groups).tolist()}
    kept = {group: (np.zeros(0, np.float32), np.zeros(0, np.int64)) for group in wanted}
    mate, top = np.full(len(own), -np.inf, np.float32), np.full(len(own), -np.inf, np.float32)
    for rows, block in ExactSearch(gallery).every_score(probes.vectors):
        block, mine = block.copy(), own[rows]
        there = np.flatnonzero(mine >= 0)
        mate[rows][there] = block[there, mine[there]]
        block[there, mine[there]] = -np.inf
        top[rows] = block.max(1)
        for group, most in wanted.items():
            lines = np.flatnonzero(groups[rows] == group) if group >= 0 else np.arange(len(block))
            scores = block[lines].ravel()
            places = (
                np.argpartition(-scores, most - 1)[:most] if len(scores) > most else np.arange(len(scores))
            )
            found = scores[places], rows.start + lines[places // block.shape[1]]
            scores, owners = (np.concatenate(pair) for pair in zip(kept[group], found, strict=True))
            highest = np.argsort(-scores, kind="stable")[:most]
            kept[group] = scores[highest], owners[highest]
    scores, owners = kept.pop(_ALL)
    return Trials(mate, top, others, scores, owners, {group: found[0] for group, found in kept.items()})
