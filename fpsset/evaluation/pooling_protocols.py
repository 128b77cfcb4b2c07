"""How published protocols pool a template, for comparing a figure with each peer's own.

The switches: `flip` adds the backbone's output for the mirrored image; `norm` weights a face by its norm
(otherwise all faces count equally); `score` weights it by the face detector's confidence; `media` averages
the faces of each medium first. FaceCoresetNet's plain baseline is `norm` alone, the sum of n_i u_i.
"""

import numpy as np

from fpsset.errors import InputError
from fpsset.face_set import RaggedSets
from fpsset.models.pooling import Pooling, media_mean, norm_weighted

SWITCHES = ("flip", "norm", "score", "media")
PROTOCOLS = {
    "facecoresetnet": "norm",
    "insightface": "flip+norm+score+media",  # the defaults of its IJB code
}
_ROWS_AT_ONCE = 1 << 14


def switches_of(pooling: str) -> frozenset[str]:
    """The switches that a pooling turns on.

    Args:
      pooling: a name of `PROTOCOLS`, or names of `SWITCHES` joined by '+'.

    Raises:
      InputError: it is neither.
    """
    switches = PROTOCOLS.get(pooling, pooling).split("+")
    if not set(switches) <= set(SWITCHES):
        raise InputError(
            f"config.evaluation.pooling is {pooling!r}; it must be {', '.join(map(repr, PROTOCOLS))}, or "
            f"some of {', '.join(SWITCHES)}, joined by '+'"
        )
    return frozenset(switches)


def pool_by(
    pooling: str, sets: RaggedSets, score: np.ndarray | None, flipped: np.ndarray | None, name: str
) -> tuple[Pooling, RaggedSets]:
    """The pooling of a protocol, and the sets with its weights in place of the norms.

    Args:
      pooling: see `switches_of`.
      sets: of M faces.
      score: [M] detector confidence, or None.
      flipped: [M, D] features of the mirrored images, or None.
      name: where the faces come from, for messages.

    Raises:
      InputError: an unknown pooling, or one that needs a column that is missing.
    """
    switches = switches_of(pooling)
    for switch, column, needed in (
        ("flip", flipped, "a column 'flipped'; extract it with --config.flip=True"),
        ("score", score, "a column 'score'; for IJB it is in *_name_5pts_score.txt"),
    ):
        if switch in switches and column is None:
            raise InputError(f"{name}: config.evaluation.pooling={pooling} needs {needed}")
    if "flip" in switches:
        sets = _with_flipped(sets, flipped)
    weights = sets.norms if "norm" in switches else np.ones_like(sets.norms)
    if "score" in switches:
        weights = weights * score
    pooled = Pooling(media_mean if "media" in switches else norm_weighted)
    return pooled, sets._replace(norms=weights)


def _with_flipped(sets: RaggedSets, flipped: np.ndarray) -> RaggedSets:
    """Adds each face's mirrored feature to its feature n u; returns the sums as directions and norms."""
    embeddings, norms = np.empty_like(sets.embeddings), np.empty_like(sets.norms)
    for start in range(0, len(norms), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        total = sets.norms[part, None] * sets.embeddings[part] + flipped[part]
        norms[part] = np.linalg.norm(total, axis=1)
        embeddings[part] = total / np.maximum(norms[part, None], np.finfo(np.float32).tiny)
    return sets._replace(embeddings=embeddings, norms=norms)
