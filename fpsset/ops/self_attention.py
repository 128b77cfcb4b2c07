"""Multi-head attention among a few masked items, in the form that suits the platform."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fpsset.ops.attention import MASKED_LOGIT, AttentionParams, Dropout, flat, flat_bias, project_out
from fpsset.ops.masking import project, zero_padding
from fpsset.ops.precision import einsum


def self_attention(
    items: jax.Array, mask: jax.Array, params: AttentionParams, dropout: Dropout | None = None
) -> jax.Array:
    """Attention among a few masked items, in the textbook form: with few keys, absorbing would save nothing.

    Args:
      items: [*B, K, D].
      mask: [*B, K] bool, True where an item is valid.
      params: the projections.
      dropout: dropout of the attention weights, for training.

    Returns:
      [*B, K, D] float32; the output bias if no item is valid.
    """
    heads = len(params.query_bias)
    items = zero_padding(items, mask)
    query, key, value = (project(items, flat(w)) for w in (params.query, params.key, params.value))
    query = (query + flat_bias(params.query_bias, query)) / math.sqrt(query.shape[-1] // heads)
    value = value + flat_bias(params.value_bias, value)
    logits = _on_cpu_or_not(_logits_of_heads, _logits_of_channels, heads, params.query.dtype)(query, key)
    real = mask[..., None, :, None]
    weights = jax.nn.softmax(jnp.where(real, logits, MASKED_LOGIT), axis=-2) * real
    if dropout is not None:
        weights = dropout(weights)
    mixed = _on_cpu_or_not(_mix_heads, _mix_channels, heads, params.query.dtype)(weights, value)
    return project_out(mixed, params)


def _on_cpu_or_not(on_cpu: Callable, elsewhere: Callable, *options) -> Callable[..., jax.Array]:
    """A function of two arrays that calls one of two with further options, whichever suits the platform."""

    def run(one: jax.Array, other: jax.Array) -> jax.Array:
        forms = {
            "cpu": lambda a, b: on_cpu(a, b, *options),
            "default": lambda a, b: elsewhere(a, b, *options),
        }
        return jax.lax.platform_dependent(one, other, **forms)

    return run


def _logits_of_heads(query: jax.Array, key: jax.Array, heads: int, dtype) -> jax.Array:
    """[*B, K, H d] queries and keys -> [*B, K, K, H]: a small product a head, which a CPU does well."""
    query, key = (array.reshape(*array.shape[:-1], heads, -1) for array in (query, key))
    return einsum("...qhd,...khd->...qkh", query, key, dtype=dtype)


def _logits_of_channels(query: jax.Array, key: jax.Array, heads: int, dtype) -> jax.Array:
    """The same with channels in one axis, as wide as a chip's registers, summed by a one-hot product."""
    products = query[..., :, None, :] * key[..., None, :, :]
    return einsum("...c,ch->...h", products, _channels_of_heads(heads, query.shape[-1]), dtype=dtype)


def _mix_heads(weights: jax.Array, value: jax.Array, heads: int, dtype) -> jax.Array:
    """[*B, K, K, H] weights and [*B, K, H d] values -> [*B, K, H d]."""
    del dtype  # a sum of products, exact: K x K weights are too few to keep a matrix unit busy
    value = value.reshape(*value.shape[:-1], heads, -1)
    mixed = sum(weights[..., :, k, :, None] * value[..., None, k, :, :] for k in range(value.shape[-3]))
    return mixed.reshape(*mixed.shape[:-2], -1)


def _mix_channels(weights: jax.Array, value: jax.Array, heads: int, dtype) -> jax.Array:
    """The same with channels in one axis."""
    spread = einsum("...h,ch->...c", weights, _channels_of_heads(heads, value.shape[-1]), dtype=dtype)
    return jnp.sum(spread * value[..., None, :, :], axis=-2)


def _channels_of_heads(heads: int, channels: int) -> jax.Array:
    """[H d, H] float32, 1 where a channel is a head's."""
    return jnp.repeat(jnp.eye(heads, dtype=jnp.float32), channels // heads, axis=0)
