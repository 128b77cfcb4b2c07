"""Helpers for masked arrays: padding that cannot leak, float32 products, lengths with finite gradients."""

import jax
import jax.numpy as jnp

from fpsset.ops.precision import matmul


def zero_padding(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Sets padded slots to zero, whatever they hold, so that neither NaN nor gradients pass through them.

    Args:
      values: [*B, N] or [*B, N, D].
      mask: [*B, N] bool, True where a slot holds a face.

    Returns:
      Array of the same shape and dtype as `values`.
    """
    if values.ndim == mask.ndim + 1:
        mask = mask[..., None]
    return jnp.where(mask, values, jnp.zeros((), values.dtype))


def widen(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Converts arrays to their common dtype, at least float32, for reductions."""
    dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
    return tuple(array.astype(dtype) for array in map(jnp.asarray, arrays))


def project(values: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies activations by a kernel, in the kernel's dtype, accumulating in float32.

    Done as one product of two matrices, so that its gradients are too: when a product contracts several axes,
    XLA's CPU compiler first writes transposed copies of both operands.

    Args:
      values: [*B, C] activations, cast to the kernel's dtype.
      kernel: [C, *F] float32 or bfloat16.

    Returns:
      [*B, *F] float32.
    """
    rows = values.astype(kernel.dtype).reshape(-1, values.shape[-1])
    product = matmul(rows, kernel.reshape(len(kernel), -1))
    return product.astype(jnp.float32).reshape(*values.shape[:-1], *kernel.shape[1:])


def count_valid(mask: jax.Array) -> jax.Array:
    """Number of faces per set: [*B, N] bool -> [*B] int32."""
    return jnp.sum(mask, axis=-1, dtype=jnp.int32)


def safe_length(vectors: jax.Array, axis: int = -1) -> jax.Array:
    """Euclidean length along an axis in float32 or wider, with gradient 0 (not NaN) at the zero vector.

    Args:
      vectors: [*B, D], or with D at `axis`.
      axis: the axis of the vectors' components.

    Returns:
      [*B] float32, >= 0.
    """
    squared = jnp.sum(jnp.square(widen(vectors)[0]), axis)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def normalize(vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Splits vectors into direction and length.

    Args:
      vectors: [*B, D].

    Returns:
      ([*B, D] float32 unit vectors, or zero for the zero vector; [*B] float32 lengths).
    """
    length = safe_length(vectors)
    divisor = jnp.where(length > 0, length, 1.0)[..., None]
    return widen(vectors)[0] / divisor, length
