"""Sinusoidal encoding of embedding norms (arXiv 2308.14075, section 3)."""

import jax
import jax.numpy as jnp
import numpy as np

# cos(2 pi t) as a polynomial of t^2 for |t| <= 1/4, within 1e-9: least squares at Chebyshev nodes.
_COSINE = (1.0, -19.73920861, 64.93935539, -85.45400806, 60.15277254, -25.04308805)


@jax.custom_jvp
def sine_of_turns(turns: jax.Array) -> jax.Array:
    """sin(2 pi t), as exact in float32 as the library's and several times as fast.

    Whole turns drop out by rounding; |sin(2 pi r)| = cos(2 pi (|r| - 1/4)) then needs one even
    polynomial on a quarter turn, which compilers turn into straight vector code.

    Args:
      turns: t, float32, any shape.

    Returns:
      Same shape, in [-1, 1] up to rounding.
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
    """e[2j] = sin(2 pi n / 10000^(2j/dim)), e[2j+1] = cos of the same.

    Args:
      norms: [*B] float, >= 0.
      dim: even number of channels.

    Returns:
      [*B, dim] float32 in [-1, 1] up to rounding.

    Raises:
      ValueError: `dim` is odd.
    """
    if dim % 2:
        raise ValueError(f"dim is {dim}: sines and cosines come in pairs, so it must be even")
    frequency = np.repeat(10000.0 ** (-np.arange(0, dim, 2) / dim), 2).astype(np.float32)
    phase = np.tile(np.float32([0, 0.25]), dim // 2)  # a cosine is a sine a quarter turn ahead
    shape = (1,) * norms.ndim + (dim,)
    return sine_of_turns(
        norms.astype(jnp.float32)[..., None] * frequency.reshape(shape) + phase.reshape(shape)
    )


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
