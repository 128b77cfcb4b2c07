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
from fpsset.ops.fused_picks import LANES, as_column, as_row, members_of, pick_in_block, rows_of
from fpsset.ops.norm_encoding import EPSILON, normalize_waves, sine_of_turns, waves_of_channels
from fpsset.ops.precision import einsum
from fpsset.ops.quality import log_norms

KINDS = ("TPU v5 lite", "TPU v5e")  # devices whose compiler has taken the kernel
# Sets and slots that one step holds at most: what it holds must fit in VMEM beside the projections.
_SETS, _FACES = 64, 2048
# The slots of a set, and the width of embeddings at most, of which a v5e's compiler takes the whole kernel.
_SLOTS, _WIDTH = (8, 16, 32, 64, 128, 256, 512), 512
_VMEM = 64 * 2**20


class PassParams(NamedTuple):
    """Parameters of the pass."""

    gamma: jax.Array  # scalar, exponent of norms in the metric
    encoding: tuple[jax.Array, jax.Array]  # [D] scale and [D] bias of E(n)
    self_attention: AttentionParams
    query_norm: tuple[jax.Array, jax.Array]  # [D] scale and [D] bias
    set_attention: AttentionParams
    output_norm: tuple[jax.Array, jax.Array]  # [D] scale and [D] bias
    quality: tuple[jax.Array, jax.Array] | None = None  # [D] direction and scalar power, if it is learned


class Prepared(NamedTuple):
    """Parameters in the form that the kernel reads, which are made once for all batches."""

    vectors: jax.Array  # [V, D] float32, among them scalars
    matrices: tuple[jax.Array, ...]  # [D, D] in the dtype of products


def prepare(params: PassParams) -> Prepared:
    """Brings parameters into the form that the kernel reads."""
    within, beyond = params.self_attention, params.set_attention
    dim = len(within.query)
    vectors = [
        *waves_of_channels(dim),
        *params.encoding,
        *(within.query_bias, within.value_bias, within.out_bias, *params.query_norm),
        *(beyond.query_bias, beyond.value_bias, beyond.out_bias, *params.output_norm),
        *(params.gamma, *(params.quality or ())),
    ]
    matrices = [flat(kernel) for kernel in (within.query, within.key, within.value)]
    matrices += [within.out.reshape(dim, dim), flat(beyond.query), flat(beyond.key).T, flat(beyond.value)]
    matrices += [beyond.out.reshape(dim, dim)]
    rows = [jnp.broadcast_to(jnp.ravel(vector), (dim,)) for vector in vectors]
    return Prepared(jnp.stack(rows), tuple(matrices))


def fits(embeddings: jax.Array, size: int, heads: int) -> bool:
    """Whether the kernel takes sets [*B, N, D] for `size` picks and so many heads."""
    if embeddings.ndim != 3 or not sizes_known(embeddings) or embeddings.dtype != jnp.float32:
        return False
    _, slots, dim = embeddings.shape
    if slots not in _SLOTS or not 1 <= size <= 4 or heads * size > 32 or dim % LANES or dim > _WIDTH:
        return False
    depth = dim // heads
    return LANES % depth == 0 or depth % LANES == 0


def block_sizes(sets: int, slots: int) -> tuple[int, int]:
    """Sets that lie in VMEM at a time, and those of them that share a product."""
    members = max(1, LANES // slots)
    unit = max(8, members)
    most = max(unit, min(_SETS, _FACES // slots) // unit * unit)
    steps = -(-sets // most)
    return -(-sets // steps // unit) * unit if steps > 1 else min(most, -(-sets // unit) * unit), members


def fused_pass(
    embeddings: jax.Array,
    norms: jax.Array,
    mask: jax.Array,
    weight: jax.Array,
    prepared: Prepared,
    size: int,
    heads: int,
    interpret: bool = False,
) -> tuple[jax.Array, ...]:
    """The picks of `farthest_point_sampling`, refined by attention among themselves and to their set.

    Args:
      embeddings: [B, N, D] float32 unit rows of a shape that `fits`.
      norms: [B, N] float, >= 0.
      mask: [B, N] bool, True where a slot holds a face.
      weight: [B, N] bool or float32, how many equal faces a slot counts as in the attention.
      prepared: parameters of the model; products are computed in the dtype of its projections.
      size: K picks.
      heads: of both attentions.
      interpret: run the kernel on any platform, slowly.

    Returns:
      ([B, K] int32 slots, -1 where a set has fewer than K faces; [B, K, D] float32 features n_i u_i of the
      picks, 0 where there is none; [B, D] float32 unit rows, or 0, the direction of the mean over the picks
      of S + LN(S + attention); [B] float32 its length).
    """
    sets, slots, dim = embeddings.shape
    block, members = block_sizes(sets, slots)
    steps = -(-sets // block)
    full, width = block // members, max(slots, LANES)
    held = -(-full // 8) * 8

    # Sets beyond the last have no faces; what a block holds of their embeddings is undefined.
    rows = jnp.stack([norms.astype(jnp.float32), jnp.where(mask, weight.astype(jnp.float32), -1.0)])
    rows = jnp.pad(rows, ((0, 0), (0, steps * block - sets), (0, 0)), constant_values=-1.0)
    rows = rows.reshape(2, steps, full, width)
    constant = [prepared.vectors, *prepared.matrices]
    tall = -(-heads * size // 8) * 8

    def by_block(*shape: int, axis: int = 0) -> pl.BlockSpec:
        return pl.BlockSpec(shape, lambda step: (0,) * axis + (step,) + (0,) * (len(shape) - axis - 1))

    picks, features, descriptor, length = pl.pallas_call(
        functools.partial(_kernel, size=size, heads=heads),
        grid=(steps,),
        in_specs=[
            by_block(block, slots, dim),
            by_block(2, None, full, width, axis=1),
            *[pl.BlockSpec(array.shape, lambda step: (0, 0)) for array in constant],
        ],
        out_specs=[
            by_block(size, None, held, width, axis=1),
            by_block(size, block, dim, axis=1),
            by_block(block, dim),
            by_block(block, 1),
        ],
        out_shape=[
            jax.ShapeDtypeStruct((size, steps, held, width), jnp.int32),
            jax.ShapeDtypeStruct((size, sets, dim), jnp.float32),
            jax.ShapeDtypeStruct((sets, dim), jnp.float32),
            jax.ShapeDtypeStruct((sets, 1), jnp.float32),
        ],
        scratch_shapes=[
            *[pltpu.VMEM((held, width), jnp.float32)] * 5,
            pltpu.VMEM((size, block, 1), jnp.float32),
            *[pltpu.VMEM((block * tall, LANES), jnp.float32)] * (dim // LANES),
        ],
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=_VMEM),
        interpret=interpret,
        name="fused_pass",
    )(embeddings, rows, *constant)
    picks = picks[:, :, :full, ::slots].reshape(size, -1)[:, :sets].T
    return picks, jnp.moveaxis(features, 0, 1), descriptor, length[:, 0]


def _kernel(faces, rows, vectors, *rest, size: int, heads: int) -> None:
    """One block of b sets; blocks are those of `fused_pass`."""
    sets, _, dim = faces.shape
    rest, asked = rest[: -(dim // LANES)], rest[-(dim // LANES) :]
    *matrices, picks, features, descriptor, length, norms, counts, marks, chosen, apart, found = rest
    each = [vectors[row : row + 1] for row in range(vectors.shape[0])]
    gamma, quality = each[14][:, :1], each[15:]
    (query, key, value, out, *beyond), dtype = matrices, matrices[0].dtype

    def encode(norms: jax.Array) -> jax.Array:
        return normalize_waves(sine_of_turns(norms * each[0] + each[1]), *each[2:4])

    # Rows are moved between lanes as whole registers; those beyond the last hold no faces.
    full = rows.shape[1]
    for array, given in ((norms, rows[0]), (counts, rows[1])):
        if full < len(array):
            array[...] = jnp.full(array.shape, -1.0)
        array[:full] = given
    mask = counts[...] >= 0
    norms[...] = jnp.where(mask, norms[...], 0.0)
    indices, bad = pick_in_block(faces, norms, mask, gamma, marks, chosen, apart, features, found)
    for k, index in enumerate(indices):
        picks[k] = index
    # What is not finite counts as NaN among the faces of its own set, and as nothing elsewhere.
    counts[...] = jnp.where(bad, jnp.nan, jnp.maximum(counts[...], 0.0))
    norms[...] = jnp.where(bad | ~mask, jnp.nan, norms[...])

    core = features[...].reshape(size * sets, dim)
    valid = [found[k] for k in range(size)]
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
    _absorb(queries, key, asked, size, heads, dtype)
    _sum_over_faces(faces, norms, counts, encode, quality, asked, dtype)
    mixed = _project_heads(value, asked, size, sets, heads, dtype) + each[10]
    seen = _dot(mixed, out[...], dtype) + each[11]
    refined = core + _layer_norm(core + seen, *each[12:14])
    if quality:
        asks = jnp.sum(core * quality[0], axis=1, keepdims=True) + quality[1][:, :1] * log_norms(_length(core))
        asks = [jnp.where(v > 0, ask, -jnp.inf) for v, ask in zip(valid, _split(asks, size), strict=True)]
        largest = functools.reduce(jnp.maximum, asks)
        shares = [jnp.where(v > 0, jnp.exp(ask - largest), 0.0) for v, ask in zip(valid, asks, strict=True)]
    else:
        shares = valid
    inverse = _inverse(sum(shares))
    parts = zip(shares, _split(refined, size), valid, strict=True)
    mean = sum(jnp.where(v > 0, part * (share * inverse), 0.0) for share, part, v in parts)
    length[...] = _length(mean)
    descriptor[...] = mean / jnp.where(length[...] > 0, length[...], 1.0)


def _among_picks(query, key, value, valid, heads: int, dtype) -> list[jax.Array]:
    """Attention of each pick to all, given as lists of [b, D]."""
    dim = query[0].shape[1]
    channel = jax.lax.broadcasted_iota(jnp.int32, (dim, LANES), 0)
    head = jax.lax.broadcasted_iota(jnp.int32, (dim, LANES), 1)
    sum_heads = jnp.where(_quotient(channel, dim // heads) == head, 1.0, 0.0)
    head = jax.lax.broadcasted_iota(jnp.int32, (LANES, dim), 0)
    channel = jax.lax.broadcasted_iota(jnp.int32, (LANES, dim), 1)
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


def _absorb(queries: jax.Array, key, asked, size: int, heads: int, dtype) -> None:
    """Writes q Wk^T of every head and pick to `asked`, see `_rows_of_pick`."""
    sets = queries.shape[0] // size
    for lanes, of_head, owner in _units(heads, *queries.shape):
        for number, head in enumerate(of_head):
            part = queries[:, lanes]
            part = part if owner is None else jnp.where(owner == number, part, 0.0)
            rows = _dot(part, key[lanes, :], dtype)
            for k in range(size):
                place = _rows_of_pick(asked, sets, head * size + k)
                for tile in range(len(asked)):
                    asked[tile][place] = rows[k * sets : (k + 1) * sets, tile * LANES : (tile + 1) * LANES]


def _project_heads(value, asked, size: int, sets: int, heads: int, dtype) -> jax.Array:
    """Weighted sums of features -> [K b, H d], each head by its own part of the projection."""
    count, dim = size * sets, len(asked) * LANES

    def sums(head: int) -> jax.Array:
        tiles = [
            jnp.concatenate(
                [asked[tile][_rows_of_pick(asked, sets, head * size + k)] for k in range(size)]
            )
            for tile in range(len(asked))
        ]
        return jnp.concatenate(tiles, axis=1)

    mixed = []
    for lanes, of_head, owner in _units(heads, count, dim):
        parts = [_dot(sums(head), value[:, lanes], dtype) for head in of_head]
        if owner is not None:
            parts = [jnp.where(owner == number, part, 0.0) for number, part in enumerate(parts)]
        mixed.append(sum(parts))
    return jnp.concatenate(mixed, axis=1)


def _rows_of_pick(asked, sets: int, row: int):
    """Where [D / 128, b T, 128] holds a row of each set, of T rows to a set."""
    return pl.ds(row, sets, stride=asked[0].shape[0] // sets)


def _units(heads: int, count: int, dim: int):
    """(Lanes, the heads in them, [count, lanes] int32 which of these owns a lane), for all lanes in turn."""
    depth = dim // heads
    if depth >= LANES:
        for head in range(heads):
            yield slice(head * depth, (head + 1) * depth), (head,), None
        return
    owner = _quotient(jax.lax.broadcasted_iota(jnp.int32, (count, LANES), 1), depth)
    for start in range(0, dim, LANES):
        yield slice(start, start + LANES), range(start // depth, (start + LANES) // depth), owner


def _sum_over_faces(faces, norms, counts, encode, quality, asked, dtype) -> None:
    """Replaces absorbed queries by the weighted means of features that they attend to."""
    sets, slots, dim = faces.shape
    members = members_of(faces)
    height, width = asked[0].shape[0] // sets * members, members * slots
    shape = height, width
    same = _quotient(jax.lax.broadcasted_iota(jnp.int32, shape, 0), height // members) == _quotient(
        jax.lax.broadcasted_iota(jnp.int32, shape, 1), slots
    )

    def look(number, _):
        norm = as_column(norms[pl.ds(number, 1)])
        usable = norm == norm
        norm = jnp.where(usable, norm, 0.0)
        features = jnp.where(usable, faces[pl.ds(number * members, members)].reshape(width, dim) * norm, 0.0)
        keys = features + encode(norm)
        place = pl.ds(pl.multiple_of(number * height, 8), height)
        queries = jnp.concatenate([asked[tile][place] for tile in range(len(asked))], axis=1)
        logits = _dot(queries, keys, dtype, transposed=True)
        if quality:
            along = as_row(jnp.sum(features * quality[0], axis=1, keepdims=True))
            logits = logits + (along + quality[1][:, :1] * log_norms(norms[pl.ds(number, 1)]))
        count = jnp.where(same, counts[pl.ds(number, 1)], 0.0)
        logits = jnp.where(count > 0, logits, MASKED_LOGIT)
        weights = jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True)) * count
        weights = weights * _inverse(jnp.sum(weights, axis=1, keepdims=True))
        means = _dot(weights, features, dtype)
        for tile in range(len(asked)):
            asked[tile][place] = means[:, tile * LANES : (tile + 1) * LANES]
        return 0

    jax.lax.fori_loop(0, rows_of(faces), look, 0)


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
