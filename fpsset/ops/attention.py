"""Multi-head attention from a few queries to any number of masked faces, one block of faces at a time.

There are only K queries but N >> K keys, so the key projection is absorbed into the queries and the value
projection is applied after the weighted sum. softmax((q Wq Wk^T) x^T) and (a x) Wv equal the textbook form at
about 2 K H / D of its cost per key. There is no key bias: it would shift all logits of a query equally.

Keys and values are computed one block at a time, with the running maximum and sum of the online softmax
(arXiv 1805.02867): softmax(l)_i = exp(l_i - m) / sum_j exp(l_j - m) holds for any m, so sums taken with an
earlier maximum m' are rescaled by exp(m' - m). No [N, D] array is written.

The steps are `absorb` for the queries, `attention_sums` over the faces, `merge` for sums over several parts,
and `attention_output`; `set_attention` runs them all.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fpsset.ops.masking import project, zero_padding
from fpsset.ops.precision import einsum

# Finite, so that a set without faces gives zeros instead of NaN.
MASKED_LOGIT = -1e30
# Rows per block, counted over all sets of the batch: keys and values of 2,048 rows stay in a CPU's cache. On
# an accelerator, whose units idle between blocks, more rows take 128 MiB.
_BLOCK_ROWS, _ACCELERATOR_BLOCK_ROWS = 2048, 32768
# Minimum block size. The batch may be sharded, which this function cannot see.
_MIN_BLOCK = 32


class AttentionParams(NamedTuple):
    """Projections of D features for H heads of d channels each (H d = D in this model).

    Products with a projection are computed in its dtype, float32 or bfloat16; everything else is float32.
    """

    query: jax.Array  # [D, H, d]
    query_bias: jax.Array  # [H, d]
    key: jax.Array  # [D, H, d]
    value: jax.Array  # [D, H, d]
    value_bias: jax.Array  # [H, d]
    out: jax.Array  # [H, d, D]
    out_bias: jax.Array  # [D]


class AttentionSums(NamedTuple):
    """Partial softmax sums over faces for R query rows, float32. `merge` combines those of disjoint parts."""

    largest: jax.Array  # [*B, R], m: the largest logit so far
    total: jax.Array  # [*B, R], sum of exp(l - m)
    mass: jax.Array  # [*B, R], the same sum after dropout
    values: jax.Array  # [*B, R, D], sum of exp(l - m) times the values, after dropout


class Block(NamedTuple):
    """Keys and values of n faces of each set, before any projection; float32."""

    keys: jax.Array  # [*B, n, D]
    values: jax.Array  # [*B, n, D]
    quality: jax.Array | None = None  # [*B, n], learned log weight, added to a face's logits for all queries


class Dropout(NamedTuple):
    """Dropout of attention weights: 0 with probability `rate`, otherwise scaled by 1 / (1 - rate)."""

    key: jax.Array  # PRNG key
    rate: float  # in [0, 1)

    def __call__(self, weights: jax.Array, block: jax.Array | int = 0) -> jax.Array:
        """Drops weights of one block; each block number has its own random draws."""
        return self.scale(weights, self.keep(weights.shape, block))

    def keep(self, shape: tuple[int, ...], block: jax.Array | int = 0) -> jax.Array:
        """Which weights of a block are kept: bool of this shape."""
        return jax.random.bernoulli(jax.random.fold_in(self.key, block), 1 - self.rate, shape)

    def scale(self, weights: jax.Array, keep: jax.Array) -> jax.Array:
        """The weights that are kept, scaled; 0 for the others."""
        return jnp.where(keep, weights / (1 - self.rate), 0.0)


def set_attention(
    queries: jax.Array,
    memory: tuple[jax.Array, ...],
    mask: jax.Array,
    keys_values: Callable[..., Block],
    params: AttentionParams,
    dropout: Dropout | None = None,
    block_size: int | None = None,
) -> jax.Array:
    """Attention from a few queries to many masked faces.

    Args:
      queries: [*B, K, D].
      memory: arrays [*B, N, ...] from which keys and values are computed; see `attention_sums`.
      mask: [*B, N] bool, True where a slot holds a face; or float32 >= 0, how many equal faces it counts as.
      keys_values: maps one block of each array of `memory`, with padding set to 0, to keys and values.
      params: the projections.
      dropout: dropout of the attention weights, for training.
      block_size: slots of each set processed at a time; chosen from the batch size when None.

    Returns:
      [*B, K, D] float32; the output bias for a set without faces.
    """
    sums = attention_sums(absorb(queries, params), memory, mask, keys_values, dropout, block_size)
    return attention_output(sums, params)


def absorb(queries: jax.Array, params: AttentionParams) -> jax.Array:
    """Projects queries and absorbs the key projection: q Wq Wk^T / sqrt(d) for each head.

    Args:
      queries: [*B, K, D].
      params: the projections.

    Returns:
      [*B, H K, D] float32, R = H K rows whose products with unprojected keys are the logits.
    """
    heads, depth = params.query_bias.shape
    *batch, count, dim = queries.shape
    query = project(queries, flat(params.query))
    query = (query + flat_bias(params.query_bias, query)) / math.sqrt(depth)
    # One head at a time, as plain matrix products: a product batched over heads would transpose its operands.
    absorbed = jnp.stack(
        [
            project(q, w.T)
            for q, w in zip(jnp.split(query, heads, axis=-1), _unstack(params.key, 1), strict=True)
        ],
        axis=-3,
    )
    return absorbed.reshape(*batch, heads * count, dim).astype(params.query.dtype)


def attention_output(sums: AttentionSums, params: AttentionParams) -> jax.Array:
    """Attention output from the sums over all faces.

    Args:
      sums: over all faces, for R = H K rows, as `absorb` orders them.
      params: the projections.

    Returns:
      [*B, K, D] float32; the output bias for a set without faces.
    """
    heads = len(params.query_bias)

    def by_head(array: jax.Array, axis: int) -> list[jax.Array]:
        """For each head [*B, K] or [*B, K, D]."""
        return jnp.split(array, heads, axis)

    # Divide by the sum of weights after the projection, where there are 1/H as many numbers to divide.
    mixed = [
        (project(v, w) + m[..., None] * expand_rank(bias, v)) / jnp.where(t == 0, 1.0, t)[..., None]
        for v, w, bias, m, t in zip(
            by_head(sums.values, -2),
            _unstack(params.value, 1),
            params.value_bias,
            by_head(sums.mass, -1),
            by_head(sums.total, -1),
            strict=True,
        )
    ]
    return project_out(jnp.concatenate(mixed, axis=-1), params)


@jax.jit  # for streams and blocks, which merge outside of programs
def merge(one: AttentionSums, other: AttentionSums) -> AttentionSums:
    """Merges the sums over two disjoint parts of a set, for the same queries."""
    largest = jnp.maximum(one.largest, other.largest)
    mine, yours = jnp.exp(one.largest - largest), jnp.exp(other.largest - largest)
    return AttentionSums(
        largest,
        one.total * mine + other.total * yours,
        one.mass * mine + other.mass * yours,
        one.values * mine[..., None] + other.values * yours[..., None],
    )


def merge_devices(sums: AttentionSums, axis_name: str) -> AttentionSums:
    """Merges the sums of all devices along `axis_name`; for use inside `shard_map`."""
    largest = jax.lax.pmax(sums.largest, axis_name)
    older = jnp.exp(sums.largest - largest)
    scaled = sums.total * older, sums.mass * older, sums.values * older[..., None]
    return AttentionSums(largest, *jax.lax.psum(scaled, axis_name))


def no_sums(absorbed: jax.Array) -> AttentionSums:
    """Sums over no faces, for absorbed queries [*B, R, D].

    Derived from the input so that inside `shard_map` the result varies over the same devices.
    """
    values = jnp.zeros_like(absorbed, jnp.float32)
    zeros = values[..., 0]
    return AttentionSums(zeros + MASKED_LOGIT, zeros, zeros, values)


def attention_weights(
    absorbed: jax.Array, memory: tuple[jax.Array, ...], mask: jax.Array, keys_values: Callable[..., Block]
) -> jax.Array:
    """The attention weights that `attention_sums` applies to values, for inspection.

    Args:
      absorbed: [*B, R, D], see `absorb`.
      memory: arrays [*B, N, ...]; processed in one block, so memory grows with N.
      mask: [*B, N] bool or float32, see `attention_sums`.
      keys_values: see `attention_sums`.

    Returns:
      [*B, R, N] float32, rows that sum to 1 with 0 on padding; all zeros for a set without faces.
    """
    weight = mask.astype(jnp.float32)
    real = weight > 0
    logits = _logits(absorbed, keys_values(*[zero_padding(array, real) for array in memory]))
    logits = logits + jnp.log(jnp.where(real, weight, 1.0))[..., None, :]
    return jax.nn.softmax(jnp.where(real[..., None, :], logits, MASKED_LOGIT), axis=-1) * real[..., None, :]


def _logits(absorbed: jax.Array, block: Block) -> jax.Array:
    """[*B, R, D] absorbed queries -> [*B, R, n]."""
    logits = einsum("...rc,...nc->...rn", absorbed, block.keys, dtype=absorbed.dtype)
    return logits if block.quality is None else logits + block.quality[..., None, :]


def _unstack(array: jax.Array, axis: int) -> list[jax.Array]:
    """The slices along an axis, split rather than indexed so that the gradient is one concatenation."""
    return [jnp.squeeze(part, axis) for part in jnp.split(array, array.shape[axis], axis)]


def project_out(mixed: jax.Array, params: AttentionParams) -> jax.Array:
    """The output projection of all heads' channels: [*B, K, H d] -> [*B, K, D] float32."""
    output = project(mixed, params.out.reshape(-1, params.out.shape[-1]))
    return output + expand_rank(params.out_bias, output)


def flat(kernel: jax.Array) -> jax.Array:
    """[D, H, d] -> [D, H d]."""
    return kernel.reshape(len(kernel), -1)


def flat_bias(bias: jax.Array, like: jax.Array) -> jax.Array:
    """[H, d] -> [H d], with leading axes of 1 for the rank of `like`."""
    return expand_rank(bias.reshape(-1), like)


def attention_sums(
    absorbed: jax.Array,
    memory: tuple[jax.Array, ...],
    mask: jax.Array,
    keys_values: Callable[..., Block],
    dropout: Dropout | None = None,
    block_size: int | None = None,
) -> AttentionSums:
    """Sums values over faces, weighted by exp(logit), one block of faces at a time.

    Args:
      absorbed: [*B, R, D], see `absorb`.
      memory: arrays [*B, N, ...] from which keys and values are computed; [*P, 1, N, ...] for packs, where
        *B is [*P, S] and the S sets of a pack share its slots.
      mask: [*B, N] bool, True where a slot holds a face; or float32 >= 0, how many equal faces it counts as.
        [*P, S, N] for packs.
      keys_values: maps one block of each array of `memory`, with padding set to 0, to keys and values.
      dropout: dropout of the attention weights, for training.
      block_size: slots of each set processed at a time; chosen from the batch size when None.

    Returns:
      AttentionSums [*B, R]; 0 for a set without faces.
    """
    if not _is_packed(memory, mask):
        return _blockwise(absorbed, memory, mask, keys_values, dropout, block_size)
    # One product serves the queries of all sets that share a row of slots.
    *batch, sets, rows, dim = absorbed.shape
    together = absorbed.reshape(*batch, sets * rows, dim)
    memory = tuple(jnp.squeeze(array, len(batch)) for array in memory)
    sums = _blockwise(together, memory, jnp.repeat(mask, rows, axis=-2), keys_values, dropout, block_size)
    return AttentionSums(
        *(array.reshape(*batch, sets, rows, *array.shape[len(batch) + 1 :]) for array in sums)
    )


def _blockwise(absorbed, memory, mask, keys_values, dropout, block_size) -> AttentionSums:
    """`_sums` with a block size for the platform, if none is given."""
    slots, sets = mask.shape[-1], math.prod(absorbed.shape[:-2])

    def sums_in(rows: int) -> Callable[..., AttentionSums]:
        # Unlike the built-ins, max_dim and min_dim also accept the symbolic sizes of an export.
        size = block_size
        if size is None:
            size = jax.core.max_dim(rows // jax.core.max_dim(sets, 1), _MIN_BLOCK)
        size = jax.core.min_dim(size, slots)
        return functools.partial(_sums, keys_values=keys_values, dropout=dropout, block_size=size)

    on_cpu, elsewhere = sums_in(_BLOCK_ROWS), sums_in(_ACCELERATOR_BLOCK_ROWS)
    same = on_cpu.keywords["block_size"] == elsewhere.keywords["block_size"]
    if same or not sizes_known(mask):
        return on_cpu(absorbed, memory, mask)
    return jax.lax.platform_dependent(absorbed, memory, mask, cpu=on_cpu, default=elsewhere)


def _sums(absorbed, memory, mask, keys_values, dropout, block_size) -> AttentionSums:
    """See `attention_sums`; with a mask [*B, R, N], each query row has its own mask over shared slots."""
    slots, batch = mask.shape[-1], absorbed.shape[:-2]
    row_masks = mask.ndim == absorbed.ndim
    if not row_masks:
        mask = mask[..., None, :]

    def sums_of(number) -> AttentionSums:
        # The last block is shifted back to end with the set; slots of the previous block are masked.
        first = jnp.minimum(number * block_size, slots - block_size)
        count = _slice(mask, first, block_size, len(batch) + 1).astype(jnp.float32)
        fresh = first + jnp.arange(block_size) >= number * block_size
        count = count * expand_rank(fresh, count)
        seen = jnp.any(count > 0, axis=-2)
        parts = [_slice(array, first, block_size, len(batch)) for array in memory]
        if row_masks:
            # A non-finite face must spoil only its own set.
            finite = functools.reduce(jnp.logical_and, (_all_finite(part, seen.ndim) for part in parts))
            spoiled, seen = jnp.any((count > 0) & ~finite[..., None, :], axis=-1), seen & finite
        block = keys_values(*[zero_padding(part, seen) for part in parts])
        logits = jnp.where(count > 0, _logits(absorbed, block), MASKED_LOGIT)
        # The maximum cancels out, so it needs no gradient.
        largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1))
        weights = jnp.exp(logits - largest[..., None]) * count
        kept = weights if dropout is None else dropout(weights, number)
        values = einsum("...rn,...nc->...rc", kept, block.values, dtype=absorbed.dtype)
        total = jnp.sum(weights, axis=-1)
        total = jnp.where(spoiled, jnp.nan, total) if row_masks else total
        return AttentionSums(largest, total, jnp.sum(kept, axis=-1), values)

    if block_size == slots:  # nothing to merge
        return sums_of(0)
    blocks = jnp.arange(-(-slots // block_size))
    return jax.lax.scan(lambda sums, n: (merge(sums, sums_of(n)), None), no_sums(absorbed), blocks)[0]


def _all_finite(array: jax.Array, ndim: int) -> jax.Array:
    """Whether all entries are finite, over every axis after the first `ndim`."""
    return jnp.all(jnp.isfinite(array), axis=tuple(range(ndim, array.ndim)))


def sizes_known(array: jax.Array) -> bool:
    """False within an export for any batch or set size."""
    return all(isinstance(size, int) for size in array.shape)


def _is_packed(memory: tuple[jax.Array, ...], mask: jax.Array) -> bool:
    # In a pack, the memory has one row of slots where the mask has S.
    return mask.ndim > 1 and any(array.shape[mask.ndim - 2] != mask.shape[-2] for array in memory)


def _slice(array: jax.Array, start: jax.Array, size: int, axis: int) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(array, start, size, axis)


def expand_rank(array: jax.Array, like: jax.Array) -> jax.Array:
    """Adds leading axes of length 1 up to the rank of `like`."""
    return array.reshape((1,) * (like.ndim - array.ndim) + array.shape)
