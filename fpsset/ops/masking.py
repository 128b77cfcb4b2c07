"""What every masked function needs: padding that cannot leak, and lengths whose gradient is finite."""

import jax
import jax.numpy as jnp


def zero_padding(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Replaces padded slots by zero, whatever they hold, so that neither NaN nor gradient passes.

    Args:
      values: [*B, N] or [*B, N, D].
      mask: [*B, N] bool, True where a slot is real.

    Returns:
      Same shape and dtype as `values`.
    """
    if values.ndim == mask.ndim + 1:
        mask = mask[..., None]
    return jnp.where(mask, values, jnp.zeros((), values.dtype))


def widen(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Arrays in one dtype that is float32 at least: what reductions are done in."""
    dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
    return tuple(array.astype(dtype) for array in map(jnp.asarray, arrays))


def project(values: jax.Array, kernel: jax.Array) -> jax.Array:
    """Activations times a kernel, in the kernel's dtype, accumulated in float32.

    As one product of two matrices, so that its gradients are such products too: of more axes than one, XLA's
    CPU compiler writes transposed copies of both operands first.

    Args:
      values: [*B, C] activations, cast to the kernel's dtype.
      kernel: [C, *S] float32 or bfloat16.

    Returns:
      [*B, *S] float32.
    """
    rows = values.astype(kernel.dtype).reshape(-1, values.shape[-1])
    product = jnp.matmul(rows, kernel.reshape(len(kernel), -1), preferred_element_type=jnp.float32)
    return product.astype(jnp.float32).reshape(*values.shape[:-1], *kernel.shape[1:])


def count_valid(mask: jax.Array) -> jax.Array:
    """Number of real slots: [*B, N] bool -> [*B] int32."""
    return jnp.sum(mask, axis=-1, dtype=jnp.int32)


def safe_length(vectors: jax.Array, axis: int = -1) -> jax.Array:
    """Euclidean length along an axis in float32 or wider, with gradient 0 (not NaN) at the zero vector.

    Args:
      vectors: [*B, D], or with D at `axis`.
      axis: of the vectors' channels.

    Returns:
      [*B] float32, >= 0.
    """
    squared = jnp.sum(jnp.square(widen(vectors)[0]), axis)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def normalize(vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Splits vectors into direction and length; the zero vector stays zero.

    Args:
      vectors: [*B, D].

    Returns:
      ([*B, D] float32 of unit length, [*B] float32 lengths).
    """
    length = safe_length(vectors)
    divisor = jnp.where(length > 0, length, 1.0)[..., None]
    return widen(vectors)[0] / divisor, length
