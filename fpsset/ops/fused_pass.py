"""Picks and attention over small sets in one TPU kernel: a block of sets stays in VMEM for the whole pass.

XLA runs the pass as a hundred programs, most of which move a few numbers per set between layouts. Here D lies
on lanes and slots on sublanes from the first pick to the refined coreset, so that faces are read once, and a
group of sets shares each product with the matrix units: what one set's queries give with another's faces is
masked. The mathematics is that of `ops.sampling`, `ops.ties`, `ops.attention` and `models.decoder`, which
remain the reference.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from fpsset.ops.attention import MASKED_LOGIT, AttentionParams, flat, sizes_known
from fpsset.ops.fused_picks import pick_in_block
from fpsset.ops.metric import norm_weight
from fpsset.ops.norm_encoding import EPSILON, normalize_waves, sine_of_turns, waves_of_channels
from fpsset.ops.precision import einsum

_LANES = 128
KINDS = ("TPU v5 lite", "TPU v5e")  # devices whose compiler has taken the kernel
# Sets and slots that one step holds at most: what it holds must fit in VMEM beside the projections.
_SETS, _FACES = 64, 2048
# The slots of a set, and the width of embeddings at most, of which a v5e's compiler takes the whole kernel.
_SLOTS, _WIDTH = (8,), 512
_VMEM = 64 * 2**20


class PassParams(NamedTuple):
    """Parameters of the pass."""

    gamma: jax.Array  # scalar, exponent of norms in the metric
    encoding: tuple[jax.Array, jax.Array]  # [D] scale and [D] bias of E(n)
    self_attention: AttentionParams
    query_norm: tuple[jax.Array, jax.Array]  # [D] scale and [D] bias
    set_attention: AttentionParams
    output_norm: tuple[jax.Array, jax.Array]  # [D] scale and [D] bias


def fits(embeddings: jax.Array, size: int, heads: int) -> bool:
    """Whether the kernel takes sets [*B, N, D] for `size` picks and so many heads."""
    if embeddings.ndim != 3 or not sizes_known(embeddings) or embeddings.dtype != jnp.float32:
        return False
    _, slots, dim = embeddings.shape
    if slots not in _SLOTS or not 1 <= size <= 4 or heads * size > 32 or dim % _LANES or dim > _WIDTH:
        return False
    return _LANES % (dim // heads) == 0


def block_sizes(sets: int, slots: int) -> tuple[int, int]:
    """Sets that lie in VMEM at a time, and those of them that share a product."""
    group = max(8, _LANES // slots)
    return min(_SETS, _FACES // slots, -(-sets // group) * group), group


def fused_pass(
    embeddings: jax.Array,
    norms: jax.Array,
    mask: jax.Array,
    weight: jax.Array,
    params: PassParams,
    size: int,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The picks of `farthest_point_sampling`, refined by attention among themselves and to their set.

    Args:
      embeddings: [B, N, D] float32 unit rows of a shape that `fits`.
      norms: [B, N] float, >= 0.
      mask: [B, N] bool, True where a slot holds a face.
      weight: [B, N] bool or float32, how many equal faces a slot counts as in the attention.
      params: of the model; products are computed in the dtype of its projections.
      size: K picks.
      interpret: run the kernel on any platform, slowly.

    Returns:
      ([B, K] int32 slots, -1 where a set has fewer than K faces; [B, K, D] float32 features n_i u_i of the
      picks, 0 where there is none; [B, D] float32 mean over the picks of S + LN(S + attention)).
    """
    sets, slots, dim = embeddings.shape
    heads = len(params.set_attention.query_bias)
    block, group = block_sizes(sets, slots)
    steps = -(-sets // block)
    spare = steps * block - sets

    def column(array: jax.Array) -> jax.Array:
        # Sets beyond the last have no faces; what a block holds of their embeddings is undefined.
        return jnp.pad(jnp.where(mask, array.astype(jnp.float32), 0.0), ((0, spare), (0, 0)))

    norms = jnp.where(mask, norms.astype(jnp.float32), 0.0)
    columns = [column(array)[..., None] for array in (norms, norm_weight(norms, params.gamma), mask)]
    counts = column(weight).reshape(-1, 1, group * slots)
    within, beyond = params.self_attention, params.set_attention
    vectors = (
        *waves_of_channels(dim),
        *params.encoding,
        *(within.query_bias, within.value_bias, within.out_bias, *params.query_norm),
        *(beyond.query_bias, beyond.value_bias, beyond.out_bias, *params.output_norm),
    )
    matrices = [flat(kernel) for kernel in (within.query, within.key, within.value)]
    matrices += [within.out.reshape(dim, dim), flat(beyond.query), flat(beyond.key).T, flat(beyond.value)]
    matrices += [beyond.out.reshape(dim, dim)]
    shared = [jnp.stack([vector.reshape(-1) for vector in vectors]), *matrices]

    def by_block(*shape: int, axis: int = 0) -> pl.BlockSpec:
        return pl.BlockSpec(shape, lambda step: (0,) * axis + (step,) + (0,) * (len(shape) - axis - 1))

    picks, features, mean = pl.pallas_call(
        functools.partial(_kernel, size=size, heads=heads),
        grid=(steps,),
        in_specs=[
            by_block(block, slots, dim),
            *[by_block(block, slots, 1)] * len(columns),
            by_block(block // group, 1, group * slots),
            *[pl.BlockSpec(array.shape, lambda step: (0, 0)) for array in shared],
        ],
        out_specs=[by_block(block, _LANES), by_block(size, block, dim, axis=1), by_block(block, dim)],
        out_shape=[
            jax.ShapeDtypeStruct((sets, _LANES), jnp.int32),
            jax.ShapeDtypeStruct((size, sets, dim), jnp.float32),
            jax.ShapeDtypeStruct((sets, dim), jnp.float32),
        ],
        scratch_shapes=[
            pltpu.VMEM((block, slots, 1), jnp.float32),
            pltpu.VMEM((block, slots, 1), jnp.float32),
            pltpu.VMEM((heads, size, block, dim), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=_VMEM),
        interpret=interpret,
        name="fused_pass",
    )(embeddings, *columns, counts, *shared)
    return picks[:, :size], jnp.moveaxis(features, 0, 1), mean


def _kernel(faces, norms, weights, mask, counts, vectors, *rest, size: int, heads: int) -> None:
    """One block of b sets; blocks are those of `fused_pass`."""
    *matrices, picks, features, mean, best, usable, rows = rest
    sets, _, dim = faces.shape
    each = [vectors[row : row + 1] for row in range(vectors.shape[0])]
    (query, key, value, out, *beyond), dtype = matrices, matrices[0].dtype

    def encode(norms: jax.Array) -> jax.Array:
        return normalize_waves(sine_of_turns(norms * each[0] + each[1]), *each[2:4])

    indices, valid, spoiled = pick_in_block(
        faces, norms[...], weights[...], mask[...], best, usable, features
    )
    lane = jax.lax.broadcasted_iota(jnp.int32, (sets, _LANES), 1)
    picks[...] = sum(jnp.where(lane == k, index, 0) for k, index in enumerate(indices))

    core = features[...].reshape(size * sets, dim)
    queries = core + encode(_length(core))
    items = jnp.where(jnp.concatenate(valid) > 0, queries, 0.0)
    scale = 1 / math.sqrt(dim // heads)
    query = (_dot(items, query[...], dtype) + each[4]) * scale
    key, value = _dot(items, key[...], dtype), _dot(items, value[...], dtype) + each[5]
    mixed = _among_picks(*(_split(array, size) for array in (query, key, value)), valid, heads, dtype)
    seen = _dot(jnp.concatenate(mixed), out[...], dtype) + each[6]
    queries = _layer_norm(queries + seen, *each[7:9])

    query, key, value, out = beyond
    queries = (_dot(queries, query[...], dtype) + each[9]) * scale
    _absorb(queries, key, rows, dtype)
    _sum_over_faces(faces, norms, usable, counts, encode, rows, dtype)
    mixed = _project_heads(rows, value, dtype) + each[10]
    seen = _dot(mixed, out[...], dtype) + each[11]
    refined = core + _layer_norm(core + seen, *each[12:14])
    parts = [jnp.where(v > 0, part, 0.0) for v, part in zip(valid, _split(refined, size), strict=True)]
    mean[...] = sum(parts) / jnp.maximum(sum(valid), 1.0) + jnp.where(spoiled > 0, jnp.nan, 0.0)


def _among_picks(query, key, value, valid, heads: int, dtype) -> list[jax.Array]:
    """Attention of each pick to all, given as lists of [b, D]."""
    dim = query[0].shape[1]
    channel = jax.lax.broadcasted_iota(jnp.int32, (dim, _LANES), 0)
    head = jax.lax.broadcasted_iota(jnp.int32, (dim, _LANES), 1)
    sum_heads = jnp.where(_quotient(channel, dim // heads) == head, 1.0, 0.0)
    head = jax.lax.broadcasted_iota(jnp.int32, (_LANES, dim), 0)
    channel = jax.lax.broadcasted_iota(jnp.int32, (_LANES, dim), 1)
    spread = jnp.where(_quotient(channel, dim // heads) == head, 1.0, 0.0)
    mixed = []
    for q in query:
        logits = [
            jnp.where(v > 0, _dot(q * k, sum_heads, dtype), MASKED_LOGIT)
            for k, v in zip(key, valid, strict=True)
        ]
        largest = functools.reduce(jnp.maximum, logits)
        weights = [jnp.exp(logit - largest) * v for logit, v in zip(logits, valid, strict=True)]
        inverse = _inverse(sum(weights))
        mixed.append(sum(_dot(w * inverse, spread, dtype) * v for w, v in zip(weights, value, strict=True)))
    return mixed


def _absorb(queries: jax.Array, key, rows, dtype) -> None:
    """Writes q Wk^T of every head to `rows`, [H, K, b, D]."""
    heads, size, sets, dim = rows.shape
    for lanes, of_head, owner in _units(heads, size * sets, dim):
        for number, head in enumerate(of_head):
            part = jnp.where(owner == number, queries[:, lanes], 0.0)
            rows[head] = _dot(part, key[lanes, :], dtype).reshape(size, sets, dim)


def _project_heads(rows, value, dtype) -> jax.Array:
    """[H, K, b, D] weighted sums of features -> [K b, H d], each head by its own part of the projection."""
    heads, size, sets, dim = rows.shape
    mixed = []
    for lanes, of_head, owner in _units(heads, size * sets, dim):
        parts = [_dot(rows[head].reshape(size * sets, dim), value[:, lanes], dtype) for head in of_head]
        mixed.append(sum(jnp.where(owner == number, part, 0.0) for number, part in enumerate(parts)))
    return jnp.concatenate(mixed, axis=1)


def _units(heads: int, count: int, dim: int):
    """(Lanes, the heads in them, [count, lanes] int32 which of these owns a lane), for all lanes in turn."""
    depth = dim // heads
    owner = _quotient(jax.lax.broadcasted_iota(jnp.int32, (count, _LANES), 1), depth)
    for start in range(0, dim, _LANES):
        yield slice(start, start + _LANES), range(start // depth, (start + _LANES) // depth), owner


def _sum_over_faces(faces, norms, usable, counts, encode, rows, dtype) -> None:
    """Replaces absorbed queries by the weighted means of features that they attend to."""
    heads, size, sets, dim = rows.shape
    slots = faces.shape[1]
    group = counts.shape[2] // slots
    shape = heads * size * group, group * slots
    of_row = jax.lax.rem(jax.lax.broadcasted_iota(jnp.int32, shape, 0), jnp.int32(group))
    same = of_row == _quotient(jax.lax.broadcasted_iota(jnp.int32, shape, 1), slots)

    def look(number, _):
        members = pl.ds(number * group, group)
        norm, use = (array[members].reshape(group * slots, 1) for array in (norms, usable))
        features = jnp.where(use > 0, faces[members].reshape(group * slots, dim) * norm, 0.0)
        keys = features + encode(norm)
        logits = _dot(rows[:, :, members].reshape(-1, dim), keys, dtype, transposed=True)
        count = jnp.where(same, counts[number], 0.0)
        logits = jnp.where(count > 0, logits, MASKED_LOGIT)
        weights = jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True)) * count
        weights = weights * _inverse(jnp.sum(weights, axis=1, keepdims=True))
        rows[:, :, members] = _dot(weights, features, dtype).reshape(heads, size, group, dim)
        return 0

    jax.lax.fori_loop(0, sets // group, look, 0)


def _dot(left: jax.Array, right: jax.Array, dtype, transposed: bool = False) -> jax.Array:
    return einsum("ab,cb->ac" if transposed else "ab,bc->ac", left, right, dtype=dtype)


def _split(array: jax.Array, parts: int) -> list[jax.Array]:
    rows = array.shape[0] // parts
    return [array[part * rows : (part + 1) * rows] for part in range(parts)]


def _inverse(total: jax.Array) -> jax.Array:
    return 1 / jnp.where(total == 0, 1.0, total)


def _quotient(array: jax.Array, divisor: int) -> jax.Array:
    # Neither operand is negative, so there is no sign to look at, as there is in `//`.
    return jax.lax.div(array, jnp.int32(divisor))


def _length(rows: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(rows), axis=1, keepdims=True))


def _layer_norm(rows: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    mean = jnp.mean(rows, axis=1, keepdims=True)
    variance = jnp.maximum(jnp.mean(jnp.square(rows), axis=1, keepdims=True) - jnp.square(mean), 0.0)
    return (rows - mean) * (jax.lax.rsqrt(variance + EPSILON) * scale) + bias
