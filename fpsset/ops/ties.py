"""Which of several equally good faces is picked: content decides, never position.

Among faces with the same score, the one with the larger norm comes first, then the one whose embedding comes
first in descending lexicographic order. Faces that are still tied are exact copies, and interchangeable. The
order needs no arithmetic, so it is the same on every device, for every split of a set, and in NumPy.
"""

import jax
import jax.numpy as jnp
import numpy as np

from fpsset.ops.metric import cosine_distance

# Channels compared at a time. Different faces of a backbone differ in the first one already.
_COLUMNS = 2


@jax.jit  # so that the picks of a program trace and lower it once
def best_face(score: jax.Array, norms: jax.Array, embeddings: jax.Array, available: jax.Array) -> jax.Array:
    """The face with the highest score, ties broken by content.

    Embeddings are read only if there are ties: a few channels of each face, and all of them where exact
    copies are tied.

    Args:
      score: [*B, N] float.
      norms: [*B, N] float; [*P, 1, N] for packs, where *B is [*P, S].
      embeddings: [*B, N, D] float; [*P, 1, N, D] for packs.
      available: [*B, N] bool, the faces to choose from.

    Returns:
      [*B] int32 slots, the lowest one of exact copies; unspecified where no face is available.
    """
    dim = embeddings.shape[-1]
    width = min(_COLUMNS, dim)

    def tied(left: jax.Array) -> jax.Array:
        return jnp.any(jnp.sum(left, axis=-1, dtype=jnp.int32) > 1)

    def without_copies(left: jax.Array) -> jax.Array:
        """Leaves out exact copies of the first face that is left."""
        first = jnp.argmax(left, axis=-1)[..., None]
        face = jnp.take_along_axis(embeddings, first[..., None], axis=-2)[..., 0, :]
        slots = jax.lax.broadcasted_iota(first.dtype, left.shape, left.ndim - 1)
        return left & ((cosine_distance(embeddings, face) > 0) | (slots == first))

    def narrow(state):
        number, left = state
        # The last slice is shifted back to end with the last channel; comparing a channel again is harmless.
        part = jax.lax.dynamic_slice_in_dim(embeddings, number * width, width, axis=-1)
        for column in range(width):
            left = _largest(part[..., column], left)
        return number + 1, jax.lax.cond(tied(left), without_copies, lambda left: left, left)

    left = _largest(norms, _largest(score, available))
    _, left = jax.lax.while_loop(
        lambda state: (state[0] < -(-dim // width)) & tied(state[1]), narrow, (jnp.int32(0), left)
    )
    return jnp.argmax(left, axis=-1).astype(jnp.int32)


def _largest(values: jax.Array, left: jax.Array) -> jax.Array:
    """Narrows [*B, N] bool to the faces with the largest value; to all of them where that is NaN."""
    values = jnp.broadcast_to(values, left.shape)
    return left & ~(values < jnp.max(values, axis=-1, keepdims=True, where=left, initial=-jnp.inf))


def ranked(scores: np.ndarray, norms: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The order of `best_face` over all faces, in NumPy.

    Args:
      scores: [n] float, no NaN.
      norms: [n] float.
      faces: [n, D] float rows.

    Returns:
      [n] int64 positions, the best face first; exact copies keep their order.
    """
    order = np.lexsort((-faces[:, 0], -norms, -scores))
    keys = np.stack([scores, norms, faces[:, 0]])[:, order]
    equal = np.concatenate([[False], (keys[:, 1:] == keys[:, :-1]).all(axis=0), [False]]).astype(np.int8)
    steps = np.diff(equal)
    for start, stop in zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1) + 1, strict=True):
        rows = order[start:stop]
        if (faces[rows] != faces[rows[0]]).any():
            order[start:stop] = rows[np.lexsort(-faces[rows, ::-1].T)]
    return order


def outranks(score: float, norm: float, face: np.ndarray, other: tuple[float, float, np.ndarray]) -> bool:
    """Whether a face comes before another (score, norm, face [D]) in this order."""
    if (score, norm) != other[:2]:
        return (score, norm) > other[:2]
    apart = np.flatnonzero(face != other[2])
    return bool(len(apart)) and bool(face[apart[0]] > other[2][apart[0]])
