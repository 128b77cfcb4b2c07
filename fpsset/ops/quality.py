"""What a face counts: a quality that is learned from faces whose person is known."""

import jax
import jax.numpy as jnp

from fpsset.ops.masking import zero_padding

# The log weight of smaller norms is that of this one, so that a norm of zero is no infinity.
_LEAST_NORM = 1e-6


def face_quality(features: jax.Array, norms: jax.Array, direction: jax.Array, power: jax.Array) -> jax.Array:
    """The log weight of faces, a . n u + p log n.

    The norm tells much of an image's quality; which way the embedding points tells some more, since poor
    images drift alike.

    Args:
      features: [*B, D] float32 n u.
      norms: [*B] n >= 0.
      direction: [D] a.
      power: [] p.

    Returns:
      [*B] float32.
    """
    return jnp.einsum("...d,d->...", features, direction) + power * log_norms(norms)


def log_norms(norms: jax.Array) -> jax.Array:
    """log n, or of 1e-6 for smaller norms, with gradient 0 there: [*B] -> [*B] float32."""
    seen = norms > _LEAST_NORM
    return jnp.log(jnp.where(seen, norms, _LEAST_NORM).astype(jnp.float32))


def quality_shares(quality: jax.Array, mask: jax.Array) -> jax.Array:
    """Softmax of log weights over real slots: [*B, K], [*B, K] bool -> [*B, K] float32, 0 where not real."""
    largest = jax.lax.stop_gradient(jnp.max(quality, axis=-1, keepdims=True, where=mask, initial=-jnp.inf))
    weights = zero_padding(jnp.exp(jnp.where(mask, quality - largest, 0.0)), mask)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total > 0, total, 1.0)
