"""Sinusoidal encoding of embedding norms (arXiv 2308.14075, section 3)."""

import jax
import jax.numpy as jnp
import numpy as np

EPSILON = 1e-5  # added to the variance in every LayerNorm of the model
# Coefficients of cos(2 pi t) as a polynomial in t^2 for |t| <= 1/4, least squares at Chebyshev nodes, with an
# error below 1e-9.
_COSINE = (1.0, -19.73920861, 64.93935539, -85.45400806, 60.15277254, -25.04308805)


@jax.custom_jvp
def sine_of_turns(turns: jax.Array) -> jax.Array:
    """sin(2 pi t), as accurate in float32 as jnp.sin and several times faster.

    Rounding removes whole turns; |sin(2 pi r)| = cos(2 pi (|r| - 1/4)) then takes one even polynomial on a
    quarter turn, which compilers vectorise without branches.

    Args:
      turns: t, float32, any shape.

    Returns:
      Array of the same shape and dtype, in [-1, 1] up to rounding.
    """
    rest = turns - jnp.round(turns)
    z = jnp.square(jnp.abs(rest) - 0.25)
    value = jnp.full_like(z, _COSINE[-1])
    for coefficient in _COSINE[-2::-1]:
        value = value * z + coefficient
    return jnp.where(rest < 0, -value, value)


@sine_of_turns.defjvp
def _sine_of_turns_jvp(primals, tangents):
    (turns,), (tangent,) = primals, tangents
    return sine_of_turns(turns), 2 * jnp.pi * sine_of_turns(turns + 0.25) * tangent


def encode_norms(norms: jax.Array, dim: int) -> jax.Array:
    """e[2j] = sin(2 pi n / 10000^(2j/dim)) and e[2j+1] = cos of the same angle.

    Args:
      norms: [*B] float, n >= 0.
      dim: number of channels, even.

    Returns:
      [*B, dim] float32 in [-1, 1] up to rounding.

    Raises:
      ValueError: `dim` is odd.
    """
    frequency, phase = waves_of_channels(dim)
    shape = (1,) * norms.ndim + (dim,)
    return sine_of_turns(
        norms.astype(jnp.float32)[..., None] * frequency.reshape(shape) + phase.reshape(shape)
    )


def waves_of_channels(dim: int) -> tuple[np.ndarray, np.ndarray]:
    """([dim] float32 turns per unit of norm, [dim] float32 phases in turns); `dim` must be even."""
    if dim % 2:
        raise ValueError(f"dim is {dim}; it must be even, because sines and cosines come in pairs")
    frequency = np.repeat(10000.0 ** (-np.arange(0, dim, 2) / dim), 2).astype(np.float32)
    return frequency, np.tile(np.float32([0, 0.25]), dim // 2)  # a cosine is a sine a quarter turn ahead


def normalized_norm_encoding(
    norms: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float = EPSILON
) -> jax.Array:
    """E(n): the sinusoidal encoding followed by a LayerNorm.

    The variance needs no second pass, because sin^2 + cos^2 = 1 fixes the second moment at 1/2.

    Args:
      norms: [*B] float, n >= 0.
      scale: [D] scale of the LayerNorm, D even.
      bias: [D] bias of the LayerNorm.
      epsilon: added to the variance.

    Returns:
      [*B, D] float32.

    Raises:
      ValueError: D is odd.
    """
    shape = (1,) * norms.ndim + scale.shape
    waves = encode_norms(norms, scale.shape[-1])
    return normalize_waves(waves, scale.reshape(shape), bias.reshape(shape), epsilon)


def normalize_waves(
    waves: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float = EPSILON
) -> jax.Array:
    """The LayerNorm of `normalized_norm_encoding`: [*B, D] waves, scale and bias of a rank with them."""
    mean = jnp.mean(waves, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(0.5 - jnp.square(mean) + epsilon)
    return (waves - mean) * (inverse * scale) + bias
