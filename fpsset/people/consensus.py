"""Faces in a person's set that are somebody else's: far from what most of the set agrees on.

Each still or video has one vote, and so has a crowd of near-copies, whatever media they claim to come from.
So a hundred copies of one stranger weigh as much as one face. The consensus is the direction that the votes
agree on, found from the vote that most others are near to, by taking their mean again and again, each
weighted by its cosine to it. A face is a stranger's if its cosine to the consensus of the other votes is
below a threshold.
"""

import numpy as np

from fpsset.face_set import RaggedSets

_COPIES = 0.9  # cosine from which faces of any two media share a vote
_ROUNDS = 8
FEWEST_VOTES = 3  # of two that disagree, nobody can say which is right


def strangers_among(sets: RaggedSets, threshold: float) -> np.ndarray:
    """The faces that are far from the consensus of their set.

    A set of fewer than three votes keeps all its faces, and every set keeps those of at least one vote.

    Args:
      sets: P sets with media, each in an order of its own.
      threshold: cosine to the consensus of the other votes below which a face is a stranger's.

    Returns:
      [M] bool, of the rows of the table.
    """
    found = np.zeros(len(sets.norms), bool)
    for first, last in zip(sets.starts[:-1], sets.starts[1:], strict=True):
        rows = sets.rows[first:last]
        cosines = consensus_cosines(sets.embeddings[rows], sets.norms[rows], sets.media[rows])
        if cosines is not None:
            far = cosines < threshold
            found[rows] = far & ~far.all()
    return found


def consensus_cosines(embeddings: np.ndarray, norms: np.ndarray, media: np.ndarray) -> np.ndarray | None:
    """The cosine of each face to the consensus of the other votes.

    Args:
      embeddings: [N, D] float32 unit rows.
      norms: [N] float32.
      media: [N] int.

    Returns:
      [N] float32; None with fewer than three votes.
    """
    vote = _votes(embeddings, media)
    count = vote.max() + 1
    if count < FEWEST_VOTES:
        return None
    sums = np.zeros((count, embeddings.shape[1]), np.float32)
    np.add.at(sums, vote, embeddings * norms[:, None])
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    votes = sums / np.where(lengths > 0, lengths, 1)
    alike = np.maximum(votes @ votes.T, 0)
    weights = alike[alike.sum(1).argmax()]
    for _ in range(_ROUNDS):
        center = weights @ votes
        weights = np.maximum(votes @ (center / np.linalg.norm(center)), 0)
    # Without the face's own vote.
    others = (weights @ votes)[None] - weights[:, None] * votes
    lengths = np.linalg.norm(others, axis=1, keepdims=True)
    others = others / np.where(lengths > 0, lengths, 1)
    return (embeddings * others[vote]).sum(1)


def _votes(embeddings: np.ndarray, media: np.ndarray) -> np.ndarray:
    """[N] int64, the vote of each face: media, joined where they hold near-copies."""
    names = np.unique(media, return_inverse=True)[1]
    first, second = np.nonzero(embeddings @ embeddings.T > _COPIES)
    joined = np.arange(names.max() + 1)
    for left, right in sorted(set(zip(names[first].tolist(), names[second].tolist(), strict=True))):
        left, right = joined[left], joined[right]
        if left != right:
            joined[joined == max(left, right)] = min(left, right)
    return np.unique(joined[names], return_inverse=True)[1]
