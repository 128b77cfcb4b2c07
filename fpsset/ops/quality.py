"""Learned quality: how much each face counts, as a log weight learned from labelled faces."""

import jax
import jax.numpy as jnp

from fpsset.ops.masking import zero_padding
from fpsset.ops.precision import einsum

# Norms are clipped to this minimum, so that the log weight of a zero norm is finite.
MIN_NORM = 1e-6


def face_quality(features: jax.Array, norms: jax.Array, direction: jax.Array, power: jax.Array) -> jax.Array:
    """The learned log weight of faces, a . (n u) + p log n.

    The norm says much about how degraded an image is. The embedding's direction says a little more, since
    embeddings of degraded images drift the same way.

    Args:
      features: [*B, D] float32, n u.
      norms: [*B] float, n >= 0; values below 1e-6 count as 1e-6.
      direction: [D], a.
      power: scalar, p.

    Returns:
      [*B] float32 log weights.
    """
    return einsum("...d,d->...", features, direction) + power * log_norms(norms)


def log_norms(norms: jax.Array) -> jax.Array:
    """log n, or of 1e-6 for smaller norms, with gradient 0 there: [*B] -> [*B] float32."""
    seen = norms > MIN_NORM
    return jnp.log(jnp.where(seen, norms, MIN_NORM).astype(jnp.float32))


def quality_shares(quality: jax.Array, mask: jax.Array) -> jax.Array:
    """Softmax of log weights over valid picks.

    Args:
      quality: [*B, K] float32 log weights.
      mask: [*B, K] bool, True where a pick is valid.

    Returns:
      [*B, K] float32, rows that sum to 1 with 0 where not valid; all zeros if no pick is valid.
    """
    largest = jax.lax.stop_gradient(jnp.max(quality, axis=-1, keepdims=True, where=mask, initial=-jnp.inf))
    weights = zero_padding(jnp.exp(jnp.where(mask, quality - largest, 0.0)), mask)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total > 0, total, 1.0)
