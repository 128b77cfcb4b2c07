"""Multi-head attention of a few queries over any number of masked faces, block by block.

Only K queries meet N keys, so the key projection is absorbed into the queries and the value projection is
applied after the weighted sum: softmax((q Wq Wk^T) x^T) and (a x) Wv are the same numbers as in the textbook
form, at about 2 K H / D of its cost per key. A key bias would shift all logits of a query equally: there is
none.

Keys and values are computed one block at a time, with the running maximum and sum of the online softmax
(arXiv 1805.02867): softmax(l)_i = exp(l_i - m) / sum_j exp(l_j - m) holds for any m, so sums taken under an
older maximum m' are scaled by exp(m' - m). No [N, D] array is written.

`absorb` the queries, take `attention_sums` over the faces, `merge` those of several parts, and project them
by `attention_output`; `set_attention` does all of it.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fpsset.ops.masking import project, zero_padding

# Finite, so that a set without a real key gives zeros and not NaN.
_NEVER = -1e30
# Rows of a block over all sets of the batch: keys and values of 2,048 rows stay in a CPU's cache.
_BLOCK_ROWS = 2048
# Minimum block size. The batch may be sharded, which this function cannot see.
_LEAST_SLOTS = 32


class AttentionParams(NamedTuple):
    """Projections of H heads of d channels over D features (H d = D in this model).

    Products with a projection are taken in its dtype, float32 or bfloat16; all else is float32.
    """

    query: jax.Array  # [D, H, d]
    query_bias: jax.Array  # [H, d]
    key: jax.Array  # [D, H, d]
    value: jax.Array  # [D, H, d]
    value_bias: jax.Array  # [H, d]
    out: jax.Array  # [H, d, D]
    out_bias: jax.Array  # [D]


class AttentionSums(NamedTuple):
    """Sums over faces for R query rows, each under its own maximum, so that those of parts can be merged."""

    largest: jax.Array  # [*B, R] of the logits seen; m
    total: jax.Array  # [*B, R] sum of exp(l - m)
    mass: jax.Array  # [*B, R] the same after dropout
    values: jax.Array  # [*B, R, D] sum of exp(l - m) times values, after dropout


class Block(NamedTuple):
    """Some faces of each set, as the queries meet them; float32."""

    keys: jax.Array  # [*B, n, D] before any projection
    values: jax.Array  # [*B, n, D] before any projection
    quality: jax.Array | None = None  # [*B, n] added to a face's logits, whichever the query


class Dropout(NamedTuple):
    """Drops attention weights: each is 0 with probability `rate`, else 1 / (1 - rate) times itself."""

    key: jax.Array
    rate: float

    def __call__(self, weights: jax.Array, block: jax.Array | int = 0) -> jax.Array:
        """Drops weights of one block; every block has draws of its own."""
        keep = jax.random.bernoulli(jax.random.fold_in(self.key, block), 1 - self.rate, weights.shape)
        return jnp.where(keep, weights / (1 - self.rate), 0.0)


def self_attention(
    items: jax.Array, mask: jax.Array, params: AttentionParams, dropout: Dropout | None = None
) -> jax.Array:
    """Attention of a few masked items to each other, in the textbook form: there is nothing to absorb.

    Args:
      items: [*B, K, D].
      mask: [*B, K] bool, True where an item is real.
      params: the projections.
      dropout: of the weights, for training.

    Returns:
      [*B, K, D] float32; the output bias for a set without a real item.
    """
    items = zero_padding(items, mask)
    query, key, value = (project(items, w) for w in (params.query, params.key, params.value))
    query = (query + _lift(params.query_bias, query)) / jnp.sqrt(query.shape[-1])
    value = value + _lift(params.value_bias, value)
    logits = jnp.einsum("...qhd,...khd->...qkh", query, key)
    real = mask[..., None, :, None]
    weights = jax.nn.softmax(jnp.where(real, logits, _NEVER), axis=-2) * real
    if dropout is not None:
        weights = dropout(weights)
    # K x K weights are too few for a matrix unit.
    mixed = sum(weights[..., :, k, :, None] * value[..., None, k, :, :] for k in range(items.shape[-2]))
    return _project_out(mixed, params)


def set_attention(
    queries: jax.Array,
    memory: tuple[jax.Array, ...],
    mask: jax.Array,
    keys_values: Callable[..., Block],
    params: AttentionParams,
    dropout: Dropout | None = None,
    block_size: int | None = None,
) -> jax.Array:
    """Attention of a few queries over many masked keys.

    Args:
      queries: [*B, K, D].
      memory: arrays [*B, N, ...] that keys and values are computed from; see `attention_sums`.
      mask: [*B, N] bool, True where a slot is real; or float32, how many equal faces it counts as.
      keys_values: maps a block of each array of `memory`, its padding 0, to keys and values.
      params: the projections.
      dropout: of the weights, for training.
      block_size: slots of a set seen at a time; chosen by the batch's size when None.

    Returns:
      [*B, K, D] float32; the output bias for a set without a real slot.
    """
    sums = attention_sums(absorb(queries, params), memory, mask, keys_values, dropout, block_size)
    return attention_output(sums, params)


def absorb(queries: jax.Array, params: AttentionParams) -> jax.Array:
    """Queries [*B, K, D] as they meet keys before any projection: [*B, H K, D] float32."""
    heads, depth = params.query_bias.shape
    *batch, count, dim = queries.shape
    query = project(queries, params.query)
    query = (query + _lift(params.query_bias, query)) / jnp.sqrt(depth)
    # A head at a time: plain matrix products, where one batched over heads would transpose its operands.
    absorbed = jnp.stack(
        [project(q, w.T) for q, w in zip(_unstack(query, -2), _unstack(params.key, 1), strict=True)],
        axis=-3,
    )
    return absorbed.reshape(*batch, heads * count, dim)


def attention_output(sums: AttentionSums, params: AttentionParams) -> jax.Array:
    """What the queries see, from the sums over all faces: [*B, K, D] float32."""
    heads = len(params.query_bias)
    *batch, rows, _ = sums.values.shape

    def by_head(array):
        return array.reshape(*batch, heads, rows // heads, *array.shape[len(batch) + 1 :])

    # Divided by the sum of weights after the projection, where there are 1/H as many numbers.
    values, mass, total = by_head(sums.values), by_head(sums.mass), by_head(sums.total)
    mixed = jnp.stack(
        [project(p, w) for p, w in zip(_unstack(values, -3), _unstack(params.value, 1), strict=True)],
        axis=-2,
    )
    mass, total = (jnp.swapaxes(array, -2, -1)[..., None] for array in (mass, total))
    mixed = (mixed + mass * _lift(params.value_bias, mixed)) / jnp.where(total == 0, 1.0, total)
    return _project_out(mixed, params)


def merge(one: AttentionSums, other: AttentionSums) -> AttentionSums:
    """The sums over the faces of both, of the same queries."""
    largest = jnp.maximum(one.largest, other.largest)
    mine, yours = jnp.exp(one.largest - largest), jnp.exp(other.largest - largest)
    return AttentionSums(
        largest,
        one.total * mine + other.total * yours,
        one.mass * mine + other.mass * yours,
        one.values * mine[..., None] + other.values * yours[..., None],
    )


def merge_devices(sums: AttentionSums, axis_name: str) -> AttentionSums:
    """The sums over all devices of an axis, from each device's own."""
    largest = jax.lax.pmax(sums.largest, axis_name)
    older = jnp.exp(sums.largest - largest)
    scaled = sums.total * older, sums.mass * older, sums.values * older[..., None]
    return AttentionSums(largest, *jax.lax.psum(scaled, axis_name))


def no_sums(absorbed: jax.Array) -> AttentionSums:
    """Sums over no faces, made from the input so that inside `shard_map` they vary over its devices."""
    zeros = jnp.zeros_like(absorbed[..., 0])
    return AttentionSums(zeros + _NEVER, zeros, zeros, jnp.zeros_like(absorbed))


def attention_weights(
    absorbed: jax.Array, memory: tuple[jax.Array, ...], mask: jax.Array, keys_values: Callable[..., Block]
) -> jax.Array:
    """The weights that `attention_sums` sums values by, to look at.

    Args:
      absorbed: [*B, R, D], see `absorb`.
      memory: arrays [*B, N, ...], all used at once, so that [*B, N, D] is held.
      mask: [*B, N] bool or float32.
      keys_values: see `attention_sums`.

    Returns:
      [*B, R, N] float32 rows that sum to 1, 0 on padding; rows of zeros for a set without a real slot.
    """
    weight = mask.astype(jnp.float32)
    real = weight > 0
    logits = _logits(absorbed, keys_values(*[zero_padding(array, real) for array in memory]))
    logits = logits + jnp.log(jnp.where(real, weight, 1.0))[..., None, :]
    return jax.nn.softmax(jnp.where(real[..., None, :], logits, _NEVER), axis=-1) * real[..., None, :]


def _logits(absorbed: jax.Array, block: Block) -> jax.Array:
    """[*B, R, D] absorbed queries -> [*B, R, n]."""
    logits = jnp.einsum("...rc,...nc->...rn", absorbed, block.keys)
    return logits if block.quality is None else logits + block.quality[..., None, :]


def _unstack(array: jax.Array, axis: int) -> list[jax.Array]:
    """The slices along an axis. Split and not indexed: the gradient is then one concatenation."""
    return [jnp.squeeze(part, axis) for part in jnp.split(array, array.shape[axis], axis)]


def _project_out(mixed: jax.Array, params: AttentionParams) -> jax.Array:
    heads, depth, dim = params.out.shape
    output = project(mixed.reshape(*mixed.shape[:-2], heads * depth), params.out.reshape(-1, dim))
    return output + _lift(params.out_bias, output)


def attention_sums(
    absorbed: jax.Array,
    memory: tuple[jax.Array, ...],
    mask: jax.Array,
    keys_values: Callable[..., Block],
    dropout: Dropout | None = None,
    block_size: int | None = None,
) -> AttentionSums:
    """The weighted sums of values over faces, one block at a time.

    Args:
      absorbed: [*B, R, D], see `absorb`.
      memory: arrays [*B, N, ...] that keys and values are computed from; [*P, 1, N, ...] for packs, where B
        is P x S and the S sets of a pack share its slots.
      mask: [*B, N] bool, True where a slot is real, or float32, how many equal faces it counts as; [*P, S, N]
        for packs.
      keys_values: maps a block of each array of `memory`, its padding 0, to keys and values.
      dropout: of the weights, for training.
      block_size: slots of a set seen at a time; chosen by the batch's size when None.
    """
    if not _shared(memory, mask):
        return _sums(absorbed, memory, mask, keys_values, dropout, block_size)
    # One product for the queries of all sets that share a row of slots.
    *batch, sets, rows, dim = absorbed.shape
    together = absorbed.reshape(*batch, sets * rows, dim)
    memory = tuple(jnp.squeeze(array, len(batch)) for array in memory)
    sums = _sums(together, memory, jnp.repeat(mask, rows, axis=-2), keys_values, dropout, block_size)
    return AttentionSums(
        *(array.reshape(*batch, sets, rows, *array.shape[len(batch) + 1 :]) for array in sums)
    )


def _sums(absorbed, memory, mask, keys_values, dropout, block_size) -> AttentionSums:
    """See `attention_sums`; a mask [*B, R, N] gives rows that share the slots each their own."""
    slots, batch = mask.shape[-1], absorbed.shape[:-2]
    if block_size is None:
        block_size = jax.core.max_dim(_BLOCK_ROWS // jax.core.max_dim(math.prod(batch), 1), _LEAST_SLOTS)
    # Unlike the built-ins, these take the symbolic sizes of an export too.
    block_size = jax.core.min_dim(block_size, slots)
    apart = mask.ndim == absorbed.ndim
    if not apart:
        mask = mask[..., None, :]

    def sums_of(number) -> AttentionSums:
        # The last block ends with the set; what the one before has seen is masked.
        first = jnp.minimum(number * block_size, slots - block_size)
        count = _cut(mask, first, block_size, len(batch) + 1).astype(jnp.float32)
        fresh = first + jnp.arange(block_size) >= number * block_size
        count = count * _lift(fresh, count)
        seen = jnp.any(count > 0, axis=-2)
        parts = [_cut(array, first, block_size, len(batch)) for array in memory]
        if apart:
            # A non-finite face must spoil only its own set.
            finite = functools.reduce(jnp.logical_and, (_finite(part, seen.ndim) for part in parts))
            spoiled, seen = jnp.any((count > 0) & ~finite[..., None, :], axis=-1), seen & finite
        block = keys_values(*[zero_padding(part, seen) for part in parts])
        logits = jnp.where(count > 0, _logits(absorbed, block), _NEVER)
        # The maximum cancels, so no gradient need pass through it.
        largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1))
        weights = jnp.exp(logits - largest[..., None]) * count
        kept = weights if dropout is None else dropout(weights, number)
        values = jnp.einsum("...rn,...nc->...rc", kept, block.values)
        total = jnp.sum(weights, axis=-1)
        total = jnp.where(spoiled, jnp.nan, total) if apart else total
        return AttentionSums(largest, total, jnp.sum(kept, axis=-1), values)

    if block_size == slots:  # nothing to merge
        return sums_of(0)
    blocks = jnp.arange(-(-slots // block_size))
    return jax.lax.scan(lambda sums, n: (merge(sums, sums_of(n)), None), no_sums(absorbed), blocks)[0]


def _finite(array: jax.Array, ndim: int) -> jax.Array:
    return jnp.all(jnp.isfinite(array), axis=tuple(range(ndim, array.ndim)))


def _shared(memory: tuple[jax.Array, ...], mask: jax.Array) -> bool:
    # In packs the slots have one row where the mask has S.
    return mask.ndim > 1 and any(array.shape[mask.ndim - 2] != mask.shape[-2] for array in memory)


def _cut(array: jax.Array, start: jax.Array, size: int, axis: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(array, start, size, axis)


def _lift(array: jax.Array, like: jax.Array) -> jax.Array:
    """With leading axes of length 1, to the rank of `like`."""
    return array.reshape((1,) * (like.ndim - array.ndim) + array.shape)
