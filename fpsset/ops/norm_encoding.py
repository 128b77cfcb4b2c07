"""Sinusoidal encoding of embedding norms (arXiv 2308.14075, section 3)."""

import jax
import jax.numpy as jnp


def encode_norms(norms: jax.Array, dim: int) -> jax.Array:
    """e[2j] = sin(2 pi n / 10000^(2j/dim)), e[2j+1] = cos of the same.

    Args:
      norms: [*B] float, >= 0.
      dim: even number of channels.

    Returns:
      [*B, dim] float32 in [-1, 1].

    Raises:
      ValueError: `dim` is odd.
    """
    if dim % 2:
        raise ValueError(f"dim is {dim}: sines and cosines come in pairs, so it must be even")
    exponent = jnp.arange(0, dim, 2, dtype=jnp.float32) / dim
    frequency = jnp.exp(-jnp.log(10000.0) * exponent)
    turns = jnp.einsum("...,j->...j", norms.astype(jnp.float32), frequency)
    # Whole turns change nothing; without them the argument stays within [-pi, pi].
    angle = 2 * jnp.pi * (turns - jnp.round(turns))
    waves = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    return waves.reshape(*norms.shape, dim)


def normalized_norm_encoding(
    norms: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float = 1e-5
) -> jax.Array:
    """E(n): the encoding after a LayerNorm.

    The variance needs no second pass: sin^2 + cos^2 = 1 fixes the second moment at 1/2.

    Args:
      norms: [*B], >= 0.
      scale: [D] of the LayerNorm, D even.
      bias: [D] of the LayerNorm.
      epsilon: added to the variance.

    Returns:
      [*B, D] float32.
    """
    waves = encode_norms(norms, scale.shape[-1])
    mean = jnp.mean(waves, axis=-1, keepdims=True)
    deviation = jnp.sqrt(0.5 - jnp.square(mean) + epsilon)
    shape = (1,) * norms.ndim + scale.shape
    return (waves - mean) / deviation * scale.reshape(shape) + bias.reshape(shape)
