"""The precision of products on every chip: exact for float32 operands, one pass for bfloat16 ones.

Left alone, a TPU rounds the operands of a float32 product to bfloat16, and a GPU to TF32: 8 and 11 bits of
24. Here the dtype of the operands decides, and nothing else: float32 means float32, in full; bfloat16 is
asked for by casting. Sums are float32 either way.
"""

import jax
import jax.numpy as jnp
from jax import lax


def precision_of(*dtypes: jnp.dtype) -> lax.Precision:
    """The precision of a product of operands of these dtypes.

    Args:
      *dtypes: of the operands.

    Returns:
      `DEFAULT`, one pass of the matrix unit, if all are 16 bits wide; `HIGHEST` otherwise.
    """
    narrow = all(jnp.dtype(dtype).itemsize <= 2 for dtype in dtypes)
    return lax.Precision.DEFAULT if narrow else lax.Precision.HIGHEST


def matmul(left: jax.Array, right: jax.Array) -> jax.Array:
    """`jnp.matmul` in the precision of its operands: [*B, a, b] @ [*B, b, c] -> [*B, a, c] float32."""
    return jnp.matmul(
        left,
        right,
        precision=precision_of(left.dtype, right.dtype),
        preferred_element_type=jnp.promote_types(jnp.result_type(left, right), jnp.float32),
    )


def einsum(spec: str, *operands: jax.Array, dtype: jnp.dtype | None = None) -> jax.Array:
    """`jnp.einsum` in the precision of its operands, with float32 sums.

    Args:
      spec: as of `jnp.einsum`.
      *operands: float arrays.
      dtype: that operands are cast to first, float32 or bfloat16; None leaves them as they are.

    Returns:
      float32 array, or float64 of such operands.
    """
    if dtype is not None:
        operands = tuple(operand.astype(dtype) for operand in operands)
    return jnp.einsum(
        spec,
        *operands,
        precision=precision_of(*(operand.dtype for operand in operands)),
        preferred_element_type=jnp.promote_types(jnp.result_type(*operands), jnp.float32),
    )
