"""Multi-head attention of a few queries over many masked keys, with absorbed projections.

Only K queries meet N keys, so the key projection moves to the queries and the value projection
behind the weighted sum: softmax((q Wq Wk^T) x^T) and (a x) Wv are the numbers of the textbook form at
about 2 K H / D of its cost per key. The key bias shifts all logits of a query alike, so there is none.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fpsset.ops.masking import zero_padding


class AttentionParams(NamedTuple):
    """Projections of H heads of d channels over D features (H d = D in this model)."""

    query: jax.Array  # [D, H, d]
    query_bias: jax.Array  # [H, d]
    key: jax.Array  # [D, H, d]
    value: jax.Array  # [D, H, d]
    value_bias: jax.Array  # [H, d]
    out: jax.Array  # [H, d, D]
    out_bias: jax.Array  # [D]


def attention_weights(
    queries: jax.Array, keys: jax.Array, mask: jax.Array, params: AttentionParams
) -> jax.Array:
    """Softmax over the real keys, per query and head.

    Args:
      queries: [*B, K, D].
      keys: [*B, N, D] float32 or bfloat16, before any projection.
      mask: [*B, N] bool, True where a key is real.
      params: the projections.

    Returns:
      [*B, H, K, N] float32; 0 on padding, so a set without a real key gives zeros.
    """
    keys = zero_padding(keys, mask).astype(jnp.float32)
    heads, depth = params.query_bias.shape
    batch = (1,) * (queries.ndim - 1)
    projected = jnp.einsum("...kc,chd->...khd", queries, params.query)
    projected = (projected + params.query_bias.reshape(*batch, heads, depth)) / jnp.sqrt(depth)
    absorbed = jnp.einsum("...khd,chd->...hkc", projected, params.key)
    logits = jnp.einsum("...hkc,...nc->...hkn", absorbed, keys)
    real = mask[..., None, None, :]
    return jax.nn.softmax(jnp.where(real, logits, -1e30), axis=-1) * real


def attention_output(
    weights: jax.Array, values: jax.Array, mask: jax.Array, params: AttentionParams
) -> jax.Array:
    """The weighted sum of the values, projected.

    Args:
      weights: [*B, H, K, N] float32, 0 on padding; after dropout they need not sum to 1.
      values: [*B, N, D], before any projection.
      mask: [*B, N] bool.
      params: the projections.

    Returns:
      [*B, K, D] float32.
    """
    values = zero_padding(values, mask).astype(jnp.float32)
    pooled = jnp.einsum("...hkn,...nc->...khc", weights, values)
    mixed = jnp.einsum("...khc,chd->...khd", pooled, params.value)
    mass = jnp.swapaxes(jnp.sum(weights, axis=-1), -1, -2)  # [*B, K, H]
    mixed = mixed + jnp.einsum("...kh,hd->...khd", mass, params.value_bias)
    output = jnp.einsum("...khd,hdc->...kc", mixed, params.out)
    return output + params.out_bias.reshape((1,) * (output.ndim - 1) + params.out_bias.shape)


def masked_attention(
    queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array, params: AttentionParams
) -> jax.Array:
    """Attention of few queries over many masked keys: the two functions above in one.

    Args:
      queries: [*B, K, D].
      keys: [*B, N, D].
      values: [*B, N, D].
      mask: [*B, N] bool.
      params: the projections.

    Returns:
      [*B, K, D] float32.
    """
    return attention_output(attention_weights(queries, keys, mask, params), values, mask, params)
