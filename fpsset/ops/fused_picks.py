"""Farthest-point sampling of a block of sets within a TPU kernel: D on lanes, slots on sublanes.

The same picks as `ops.sampling`, by the order of `ops.ties`; see `ops.fused_pass`.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl


def pick_in_block(faces, norms, weights, mask, best, usable, features):
    """Picks K faces of each of b sets.

    Args:
      faces: reference to [b, N, D]; padding may hold anything.
      norms: [b, N, 1], 0 in padded slots.
      weights: [b, N, 1], the metric's factors.
      mask: [b, N, 1] float32, 1 where a slot holds a face.
      best: reference to [b, N, 1], to work in.
      usable: reference to [b, N, 1], becomes the mask without faces that are not finite.
      features: reference to [K, b, D], becomes the features of the picks, 0 where there is none.

    Returns:
      For each pick [b, 1] slots, for each pick [b, 1] 1 where there is one, and [b, 1] 1 for spoiled sets.
    """
    sets, slots, _ = faces.shape
    place = jax.lax.broadcasted_iota(jnp.int32, (sets, slots, 1), 1)
    left, score, distance = mask > 0, norms, jnp.full((sets, slots, 1), jnp.inf)
    indices, valid = [], []
    for k in range(len(features)):
        first = _largest(score, left)
        best[...] = jnp.where(first, 1.0, 0.0)

        @pl.when(jnp.max(jnp.sum(best[...], axis=1)) > 1)
        def _():
            _break_ties(faces, norms, best, place)

        here = best[...] > 0
        index = jnp.max(jnp.where(here, place, -1), axis=1, keepdims=True)
        center = jnp.sum(jnp.where(here, faces[...], 0.0), axis=1, keepdims=True)
        features[k] = (center * jnp.sum(jnp.where(here, norms, 0.0), axis=1, keepdims=True))[:, 0]
        indices.append(index[:, 0])
        valid.append(jnp.where(index[:, 0] >= 0, 1.0, 0.0))
        left = left & (place != index)
        # After the last pick too where it is the only one, for any face that is not finite shows here.
        if k == 0 or k + 1 < len(features):
            distance = jnp.minimum(distance, weights * (_squared_distance(faces[...], center) / 4))
            score = distance
        if k == 0:
            bad = (mask > 0) & ~((jnp.abs(distance) < jnp.inf) & (jnp.abs(norms) < jnp.inf))
            usable[...] = jnp.where(bad, 0.0, mask)
            spoiled = jnp.max(jnp.where(bad, 1.0, 0.0), axis=1)
    return indices, valid, spoiled


def _break_ties(faces, norms, best, place) -> None:
    """Narrows the faces that are marked in `best` as `ops.ties` does."""
    dim = faces.shape[-1]
    lane = jax.lax.broadcasted_iota(jnp.int32, faces.shape, 2)

    def tied(marked: jax.Array) -> jax.Array:
        return (jnp.max(jnp.sum(marked, axis=1)) > 1).astype(jnp.int32)

    def without_copies(marked: jax.Array) -> jax.Array:
        first = jnp.min(jnp.where(marked > 0, place, place.shape[1]), axis=1, keepdims=True)
        face = jnp.sum(jnp.where(place == first, faces[...], 0.0), axis=1, keepdims=True)
        other = _squared_distance(faces[...], face) > 0
        return jnp.where(other | (place == first), marked, 0.0)

    def narrow(state):
        column, _ = state
        values = jnp.sum(jnp.where(lane == column, faces[...], 0.0), axis=2, keepdims=True)
        best[...] = without_copies(jnp.where(_largest(values, best[...] > 0), 1.0, 0.0))
        return column + 1, tied(best[...])

    best[...] = jnp.where(_largest(norms, best[...] > 0), 1.0, 0.0)
    jax.lax.while_loop(
        lambda state: (state[0] < dim) & (state[1] > 0), narrow, (jnp.int32(0), tied(best[...]))
    )


def _largest(values: jax.Array, left: jax.Array) -> jax.Array:
    """Narrows [b, N, 1] bool to the faces with the largest value, and to some of them where one is NaN."""
    return left & ~(values < jnp.max(jnp.where(left, values, -jnp.inf), axis=1, keepdims=True))


def _squared_distance(faces: jax.Array, center: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(faces - center), axis=2, keepdims=True)
