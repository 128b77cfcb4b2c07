"""Attention to small sets on a matrix unit: in the textbook form, several sets to a product."""

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
    expand_rank,
    flat,
    flat_bias,
    project_out,
    set_attention,
    sizes_known,
)
from fpsset.ops.masking import project, zero_padding
from fpsset.ops.precision import einsum

# Columns of a TPU's matrix unit, and the largest sets of which it projects the faces instead of the queries.
_COLUMNS, _DIRECT_SLOTS = 128, 16


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
    """`set_attention` in the textbook form, several sets to a product: for small sets on a matrix unit.

    Where a set has fewer slots than the queries have rows, H K, projecting its faces writes less than
    absorbing the projection. A unit multiplies tiles of 128 x 128 in the time that it takes for the few rows
    of one set, so sets are multiplied together, and what lies between two sets is masked out.

    Args:
      queries: [B, K, D].
      memory: arrays [B, N, ...]; see `attention_sums`.
      mask: [B, N] bool or float32; see `attention_sums`.
      keys_values: see `attention_sums`.
      params: the projections.
      dropout: dropout of the attention weights, for training, with the draws of `set_attention`.

    Returns:
      [B, K, D] float32; the output bias for a set without faces.
    """
    heads, depth = params.query_bias.shape
    (batch, slots), count = mask.shape, queries.shape[1]
    size = math.gcd(batch, max(1, _COLUMNS // slots))
    groups = batch // size

    def joined(array: jax.Array) -> jax.Array:
        return array.reshape(groups, size * slots, *array.shape[2:])

    def by_query(array: jax.Array) -> jax.Array:
        """[K, B, ...] -> [groups, K sets, ...], the sets of a query side by side."""
        array = array.reshape(count, groups, size, *array.shape[2:])
        return jnp.swapaxes(array, 0, 1).reshape(groups, count * size, *array.shape[3:])

    def per_slot(array: jax.Array) -> jax.Array:
        """[K or 1, B, N] -> [groups, sets N, K sets], each set's slots for each of the sets."""
        rows = jnp.broadcast_to(array, (count, batch, slots))
        return jnp.tile(jnp.swapaxes(by_query(rows), 1, 2), (1, size, 1))

    own = jnp.repeat(jnp.tile(jnp.eye(size, dtype=bool), (1, count)), slots, axis=0)[None]
    weight = mask.astype(jnp.float32)
    block = keys_values(*[zero_padding(array, weight > 0) for array in memory])
    query = project(queries, flat(params.query))
    query = (query + flat_bias(params.query_bias, query)) / math.sqrt(depth)
    query = by_query(jnp.swapaxes(query, 0, 1))
    key, value = (
        joined(project(faces, flat(kernel)))
        for faces, kernel in ((block.keys, params.key), (block.values, params.value))
    )
    # A face that is not finite must spoil its own set only: there its weight is NaN, elsewhere 0 times this.
    value = jnp.where(jnp.isfinite(value), value, 0.0)
    weight = jnp.where(own, per_slot(weight[None]), 0.0)
    quality = 0.0 if block.quality is None else per_slot(block.quality[None])
    keep = None if dropout is None else dropout.keep((batch, heads * count, slots))

    mixed = []
    for head in range(heads):
        channels = slice(head * depth, (head + 1) * depth)
        logits = einsum(
            "...nc,...rc->...nr", key[..., channels], query[..., channels], dtype=params.key.dtype
        )
        logits = jnp.where(weight > 0, logits + quality, MASKED_LOGIT)
        largest = jax.lax.stop_gradient(jnp.max(logits, axis=-2, keepdims=True))
        weights = jnp.exp(logits - largest) * weight
        total = jnp.sum(weights, axis=-2)
        if keep is not None:
            rows = keep[:, head * count : (head + 1) * count]
            weights = dropout.scale(weights, per_slot(jnp.moveaxis(rows, 1, 0)))
        values = einsum("...nr,...nc->...rc", weights, value[..., channels], dtype=params.value.dtype)
        values = values + jnp.sum(weights, axis=-2)[..., None] * expand_rank(params.value_bias[head], values)
        mixed.append(values / jnp.where(total == 0, 1.0, total)[..., None])
    mixed = jnp.concatenate(mixed, axis=-1).reshape(groups, count, size, heads * depth)
    mixed = jnp.swapaxes(mixed, 1, 2).reshape(batch, count, heads * depth)
    return project_out(mixed, params)
