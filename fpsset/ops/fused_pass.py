"""Picks and attention over small sets in one TPU kernel: a block of sets stays in VMEM for the whole pass.

XLA runs the pass as a hundred programs, most of which move a few numbers per set between layouts. Here faces
are read once, and D lies on lanes from the first pick (`ops.fused_picks`) to the refined coreset
(`ops.fused_attention`). The mathematics is that of `ops.sampling`, `ops.ties`, `ops.attention` and
`models.decoder`, which remain the reference.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from fpsset.ops.attention import AttentionParams, flat, sizes_known
from fpsset.ops.fused_attention import (
    absorb,
    among_picks,
    dot,
    inverse,
    project_heads,
    split,
    sum_over_faces,
)
from fpsset.ops.fused_picks import LANES, pick_in_block
from fpsset.ops.norm_encoding import EPSILON, normalize_waves, sine_of_turns, waves_of_channels
from fpsset.ops.quality import log_norms

# Devices whose compiler has taken the kernel, by either of their names.
KINDS = ("TPU v5 lite", "TPU v5e", "TPU v5", "TPU v5p", "TPU v6 lite", "TPU v6e")
# Sets and slots that one step holds at most: what it holds must fit in VMEM beside the projections.
_SETS, _FACES = 64, 2048
# The slots of a set, and the width of embeddings at most, of which the compilers take the whole kernel.
_SLOTS, _WIDTH = (8, 16, 32, 64, 128, 256, 512), 512
_VMEM = 48 * 2**20  # a v5p has 64 MiB


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
    """Sets that lie in VMEM at a time, and those of them that share a row of 128 lanes."""
    members = max(1, LANES // slots)
    unit = max(8, members)
    most = max(unit, min(_SETS, _FACES // slots) // unit * unit)
    steps = -(-sets // most)
    return -(-sets // steps // unit) * unit, members


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
    held = -(-full // 8) * 8  # whole registers

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
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",), vmem_limit_bytes=_VMEM),
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
    query = (dot(items, query[...], dtype) + each[4]) * scale
    key, value = dot(items, key[...], dtype), dot(items, value[...], dtype) + each[5]
    mixed = among_picks(*(split(array, size) for array in (query, key, value)), valid, heads, dtype)
    seen = dot(jnp.concatenate(mixed), out[...], dtype) + each[6]
    queries = _layer_norm(queries + seen, *each[7:9])

    query, key, value, out = beyond
    queries = (dot(queries, query[...], dtype) + each[9]) * scale
    absorb(queries, key, asked, size, heads, dtype)
    sum_over_faces(faces, norms, counts, encode, quality, asked, dtype)
    mixed = project_heads(value, asked, size, sets, heads, dtype) + each[10]
    seen = dot(mixed, out[...], dtype) + each[11]
    refined = core + _layer_norm(core + seen, *each[12:14])
    if quality:
        worth = jnp.sum(core * quality[0], axis=1, keepdims=True)
        worth = worth + quality[1][:, :1] * log_norms(_length(core))
        worth = [jnp.where(v > 0, one, -jnp.inf) for v, one in zip(valid, split(worth, size), strict=True)]
        largest = functools.reduce(jnp.maximum, worth)
        shares = [jnp.where(v > 0, jnp.exp(one - largest), 0.0) for v, one in zip(valid, worth, strict=True)]
    else:
        shares = valid
    whole = inverse(sum(shares))
    parts = zip(valid, shares, split(refined, size), strict=True)
    mean = sum(jnp.where(v > 0, share * whole * part, 0.0) for v, share, part in parts)
    length[...] = _length(mean)
    descriptor[...] = mean / jnp.where(length[...] > 0, length[...], 1.0)


def _length(rows: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(rows), axis=1, keepdims=True))


def _layer_norm(rows: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    mean = jnp.mean(rows, axis=1, keepdims=True)
    variance = jnp.maximum(jnp.mean(jnp.square(rows), axis=1, keepdims=True) - jnp.square(mean), 0.0)
    return (rows - mean) * (jax.lax.rsqrt(variance + EPSILON) * scale) + bias
