"""Faces in a person's set that are somebody else's: far from what most of the set agrees on.

Near-copies share one vote, whatever media they claim to come from, so a thousand copies of one stranger
weigh as much as one face; the votes of a medium weigh by the square root of their number. The consensus is
the direction that votes agree on, found from the vote that most others are near to, by taking their mean
again and again, each weighted by its cosine to it.

Whether a face is a stranger's is then a matter of odds: how likely its cosine to the consensus of the other
votes is for an own face and for a stranger's, which labelled people tell, and how many strangers the set
seems to have, which is found from the set itself. So a set without strangers keeps its poor faces, and a set
with many is sifted strictly.
"""

import itertools

import numpy as np
from scipy.sparse.csgraph import connected_components

from fpsset.data.feature_table import FeatureTable
from fpsset.errors import InputError
from fpsset.face_set import RaggedSets, group_rows

FEWEST_VOTES = 3  # of two that disagree, nobody can say which is right
_COPIES = 0.9  # cosine from which faces share a vote
_ROUNDS = 8
_EDGES = np.linspace(-0.3, 0.8, 23)  # of bins of cosines
_FEWEST_FACES = 1000
# Before a set is seen, one face in ten is taken for a stranger's, as if two faces had told so.
_PRIOR, _PRIOR_FACES = 0.1, 2.0


def strangers_among(sets: RaggedSets, odds: np.ndarray) -> np.ndarray:
    """The faces that are rather a stranger's than the person's.

    A set of fewer than three votes keeps all its faces, and every set keeps one at least.

    Args:
      sets: P sets with media, each in an order of its own.
      odds: from `fit_odds`.

    Returns:
      [M] bool, of the rows of the table.
    """
    found = np.zeros(len(sets.norms), bool)
    for first, last in itertools.pairwise(sets.starts):
        rows = sets.rows[first:last]
        cosines = consensus_cosines(sets.embeddings[rows], sets.norms[rows], sets.media[rows])
        if cosines is not None:
            far = _strange(cosines, odds)
            found[rows] = far & ~far.all()
    return found


def fit_odds(table: FeatureTable) -> np.ndarray:
    """How much likelier a cosine to the consensus is for an own face than for a stranger's.

    Args:
      table: faces of people, rightly labelled. A face of the next person stands for a stranger's.

    Returns:
      [24] float64, logarithms of the ratio in bins of cosines, which never fall.

    Raises:
      InputError: fewer than 1,000 faces are of people with three votes or more.
    """
    _, sets = group_rows(table.embeddings, table.norms, table.subject, table.media)
    own, others = [np.zeros(0)], [np.zeros(0)]
    for first, last in itertools.pairwise(sets.starts):
        rows, other = sets.rows[first:last], sets.rows[last % len(sets.rows)]
        rows = np.append(rows, other)  # with whom hardly a vote agrees, so that the consensus stays as it is
        media = np.append(table.media[rows[:-1]], -1)
        cosines = consensus_cosines(table.embeddings[rows], table.norms[rows], media)
        if cosines is not None and len(rows) > FEWEST_VOTES:
            own.append(cosines[:-1])
            others.append(cosines[-1:])
    own, others = np.concatenate(own), np.concatenate(others)
    if len(own) < _FEWEST_FACES:
        raise InputError(
            f"{table.name}: {len(own)} faces of people with {FEWEST_VOTES} votes or more are too few to tell "
            f"strangers by; give {_FEWEST_FACES}"
        )
    shares = [
        (np.bincount(np.digitize(values, _EDGES), minlength=len(_EDGES) + 1) + 0.5) / (len(values) + 12)
        for values in (own, others)
    ]
    return np.maximum.accumulate(np.log(shares[0]) - np.log(shares[1]))


def _strange(cosines: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """[N] bool, by the odds of each face and the share of strangers that these amount to together."""
    middles = (_EDGES[:-1] + _EDGES[1:]) / 2
    ratio = np.exp(np.interp(cosines, middles, odds[1:-1]))
    share = _PRIOR
    for _ in range(_ROUNDS):
        strange = share / (share + (1 - share) * ratio)
        share = (strange.sum() + _PRIOR * _PRIOR_FACES) / (len(cosines) + _PRIOR_FACES)
    return strange > 0.5


def consensus_cosines(embeddings: np.ndarray, norms: np.ndarray, media: np.ndarray) -> np.ndarray | None:
    """The cosine of each face to the consensus of the other votes.

    Args:
      embeddings: [N, D] float32 unit rows.
      norms: [N] float32.
      media: [N] int.

    Returns:
      [N] float32; None with fewer than three votes.
    """
    vote = _votes(embeddings)
    count = vote.max() + 1
    if count < FEWEST_VOTES:
        return None
    sums = np.zeros((count, embeddings.shape[1]), np.float32)
    np.add.at(sums, vote, embeddings * norms[:, None])
    votes = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    shares = _shares(vote, media)
    alike = np.maximum(votes @ votes.T, 0)
    weights = shares * alike[(shares * (alike @ shares)).argmax()]
    for _ in range(_ROUNDS):
        center = weights @ votes
        weights = shares * np.maximum(votes @ (center / max(np.linalg.norm(center), 1e-12)), 0)
    others = (weights @ votes)[None] - weights[:, None] * votes  # without the face's own vote
    others /= np.maximum(np.linalg.norm(others, axis=1, keepdims=True), 1e-12)
    return (embeddings * others[vote]).sum(1)


def _votes(embeddings: np.ndarray) -> np.ndarray:
    """[N] int64, the vote of each face: near-copies, and their near-copies, share one."""
    vote = connected_components(embeddings @ embeddings.T > _COPIES, directed=False)[1]
    return vote.astype(np.int64)


def _shares(vote: np.ndarray, media: np.ndarray) -> np.ndarray:
    """[V] float32, what each vote counts: 1 / sqrt(the votes of its medium)."""
    first = np.unique(vote, return_index=True)[1]
    _, which, sizes = np.unique(media[first], return_inverse=True, return_counts=True)
    return (1 / np.sqrt(sizes[which])).astype(np.float32)
