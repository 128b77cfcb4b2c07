"""Multi-head attention in the textbook form, for few keys: among the picks of a set, and to small sets.

`ops.attention` absorbs the projections, which saves nothing where a set has fewer slots than the queries have
rows, H K. Here keys and values are projected, and multiplied by heads as suits the platform.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from fpsset.ops.attention import (
    MASKED_LOGIT,
    AttentionParams,
    Block,
    Dropout,
    flat,
    flat_bias,
    project_out,
    set_attention,
    sizes_known,
)
from fpsset.ops.masking import project, zero_padding
from fpsset.ops.precision import einsum

# The largest sets of which a TPU projects the faces instead of the queries.
_DIRECT_SLOTS = 16


def self_attention(
    items: jax.Array, mask: jax.Array, params: AttentionParams, dropout: Dropout | None = None
) -> jax.Array:
    """Attention among a few masked items.

    Args:
      items: [*B, K, D].
      mask: [*B, K] bool, True where an item is valid.
      params: the projections.
      dropout: dropout of the attention weights, for training.

    Returns:
      [*B, K, D] float32; the output bias if no item is valid.
    """
    items = zero_padding(items, mask)
    by_heads = (
        _on_cpu_or_not(_logits_of_heads, _logits_of_channels),
        _on_cpu_or_not(_mix_heads, _mix_channels),
    )
    return _attend(items, Block(items, items), mask, params, dropout, *by_heads)


def attention_for_platform(
    queries: jax.Array,
    memory: tuple[jax.Array, ...],
    mask: jax.Array,
    keys_values: Callable[..., Block],
    params: AttentionParams,
    dropout: Dropout | None = None,
) -> jax.Array:
    """`set_attention`, in the form that suits the platform: on TPUs `direct_attention` to small sets.

    Arguments and result: see `set_attention`.
    """
    options = {"keys_values": keys_values, "params": params, "dropout": dropout}
    absorbed = functools.partial(set_attention, **options)
    rows = len(params.query_bias) * queries.shape[-2]
    if not (mask.ndim == 2 and sizes_known(mask) and mask.shape[1] < rows and mask.shape[1] <= _DIRECT_SLOTS):
        return absorbed(queries, memory, mask)
    direct = functools.partial(direct_attention, **options)
    return jax.lax.platform_dependent(queries, memory, mask, tpu=direct, default=absorbed)


def direct_attention(
    queries: jax.Array,
    memory: tuple[jax.Array, ...],
    mask: jax.Array,
    keys_values: Callable[..., Block],
    params: AttentionParams,
    dropout: Dropout | None = None,
) -> jax.Array:
    """`set_attention` in the textbook form, for chips: all faces are projected, and held at once.

    Args:
      queries: [*B, K, D].
      memory: arrays [*B, N, ...]; see `attention_sums`.
      mask: [*B, N] bool or float32; see `attention_sums`.
      keys_values: see `attention_sums`.
      params: the projections.
      dropout: dropout of the attention weights, for training, with the draws of `set_attention`.

    Returns:
      [*B, K, D] float32; the output bias for a set without faces.
    """
    weight = mask.astype(jnp.float32)
    block = keys_values(*[zero_padding(array, weight > 0) for array in memory])

    def drop(weights: jax.Array) -> jax.Array:
        *batch, count, slots, heads = weights.shape
        keep = dropout.keep((*batch, heads * count, slots)).reshape(*batch, heads, count, slots)
        return dropout.scale(weights, jnp.moveaxis(keep, -3, -1))

    drops = None if dropout is None else drop
    return _attend(queries, block, weight, params, drops, _logits_of_channels, _mix_channels)


def _attend(
    queries: jax.Array,
    block: Block,
    weight: jax.Array,
    params: AttentionParams,
    dropout: Callable[[jax.Array], jax.Array] | None,
    logits_of: Callable[..., jax.Array],
    mix: Callable[..., jax.Array],
) -> jax.Array:
    """Attention of queries [*B, K, D] to n keys and values, each as many as `weight`, [*B, n], says."""
    heads, dtype = len(params.query_bias), params.query.dtype
    query = project(queries, flat(params.query))
    query = (query + flat_bias(params.query_bias, query)) / math.sqrt(query.shape[-1] // heads)
    key, value = project(block.keys, flat(params.key)), project(block.values, flat(params.value))
    value = value + flat_bias(params.value_bias, value)
    logits = logits_of(query, key, heads, dtype)
    if block.quality is not None:
        logits = logits + block.quality[..., None, :, None]
    weight = weight[..., None, :, None]
    logits = jnp.where(weight > 0, logits, MASKED_LOGIT)
    # The maximum cancels out, so it needs no gradient.
    largest = jax.lax.stop_gradient(jnp.max(logits, axis=-2, keepdims=True))
    weights = jnp.exp(logits - largest) * weight
    total = jnp.sum(weights, axis=-2, keepdims=True)
    weights = weights / jnp.where(total == 0, 1.0, total)
    if dropout is not None:
        weights = dropout(weights)
    return project_out(mix(weights, value, heads, dtype), params)


def _on_cpu_or_not(on_cpu: Callable, elsewhere: Callable) -> Callable[..., jax.Array]:
    """A function of two arrays and options that calls one of two, whichever suits the platform."""

    def run(one: jax.Array, other: jax.Array, *options) -> jax.Array:
        forms = {
            "cpu": lambda a, b: on_cpu(a, b, *options),
            "default": lambda a, b: elsewhere(a, b, *options),
        }
        return jax.lax.platform_dependent(one, other, **forms)

    return run


def _logits_of_heads(query: jax.Array, key: jax.Array, heads: int, dtype) -> jax.Array:
    """[*B, K, H d] queries, [*B, n, H d] keys -> [*B, K, n, H]: a product a head, which CPUs do well."""
    query, key = (array.reshape(*array.shape[:-1], heads, -1) for array in (query, key))
    return einsum("...qhd,...khd->...qkh", query, key, dtype=dtype)


def _logits_of_channels(query: jax.Array, key: jax.Array, heads: int, dtype) -> jax.Array:
    """The same with channels in one axis, as wide as a chip's registers, summed by a one-hot product."""
    products = query[..., :, None, :] * key[..., None, :, :]
    return einsum("...c,ch->...h", products, _channels_of_heads(heads, query.shape[-1]), dtype=dtype)


def _mix_heads(weights: jax.Array, value: jax.Array, heads: int, dtype) -> jax.Array:
    """[*B, K, n, H] weights and [*B, n, H d] values -> [*B, K, H d]."""
    del dtype  # a sum of products, exact: K x n weights are too few to keep a matrix unit busy
    value = value.reshape(*value.shape[:-1], heads, -1)
    mixed = sum(weights[..., n, :, None] * value[..., None, n, :, :] for n in range(value.shape[-3]))
    return mixed.reshape(*mixed.shape[:-2], -1)


def _mix_channels(weights: jax.Array, value: jax.Array, heads: int, dtype) -> jax.Array:
    """The same with channels in one axis; a key at a time, for none needs another layout that way."""
    spread = functools.partial(einsum, "...h,ch->...c", dtype=dtype)
    ones = _channels_of_heads(heads, value.shape[-1])
    return sum(spread(weights[..., n, :], ones) * value[..., None, n, :] for n in range(value.shape[-2]))


def _channels_of_heads(heads: int, channels: int) -> jax.Array:
    """[H d, H] float32, 1 where a channel is a head's."""
    return jnp.repeat(jnp.eye(heads, dtype=jnp.float32), channels // heads, axis=0)
