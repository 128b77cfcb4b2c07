"""The attention of the fused TPU kernel: among the picks of a set, and from them to its faces.

The sets of a row (see `ops.fused_picks`) share each product with the matrix units: what one set's queries
give with another's faces is masked.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from fpsset.ops.attention import MASKED_LOGIT
from fpsset.ops.fused_picks import LANES, as_column, as_row, members_of, rows_of
from fpsset.ops.precision import einsum
from fpsset.ops.quality import log_norms


def among_picks(query, key, value, valid, heads: int, dtype) -> list[jax.Array]:
    """Attention of each pick to all, given as lists of [b, D], and of [b, 1] which are picks."""
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
            jnp.where(v > 0, dot(q * k, sum_heads, dtype), MASKED_LOGIT)
            for k, v in zip(key, valid, strict=True)
        ]
        largest = functools.reduce(jnp.maximum, logits)
        weights = [jnp.exp(logit - largest) * v for logit, v in zip(logits, valid, strict=True)]
        share = inverse(sum(weights))
        mixed.append(sum(dot(w * share, spread, dtype) * v for w, v in zip(weights, value, strict=True)))
    return mixed


def absorb(queries: jax.Array, key, asked, size: int, heads: int, dtype) -> None:
    """Absorbs the key projection as `ops.attention` does.

    Args:
      queries: [K b, D].
      key: reference to [D, D], the projection transposed.
      asked: for each 128 channels a reference to [b T, 128], becomes q Wk^T with T >= H K rows to a set, head
        by head and in each pick by pick; what lies beyond H K is undefined.
      size: K.
      heads: H.
      dtype: of products.
    """
    sets = queries.shape[0] // size
    for lanes, of_head, owner in _units(heads, *queries.shape):
        for number, head in enumerate(of_head):
            part = queries[:, lanes]
            part = part if owner is None else jnp.where(owner == number, part, 0.0)
            rows = dot(part, key[lanes, :], dtype)
            for k in range(size):
                place = _rows_of_pick(asked, sets, head * size + k)
                for tile in range(len(asked)):
                    asked[tile][place] = rows[k * sets : (k + 1) * sets, tile * LANES : (tile + 1) * LANES]


def project_heads(value, asked, size: int, sets: int, heads: int, dtype) -> jax.Array:
    """The means that `sum_over_faces` left -> [K b, H d], each head by its own part of the projection."""
    count, dim = size * sets, len(asked) * LANES

    def sums(head: int) -> jax.Array:
        tiles = [
            jnp.concatenate([asked[tile][_rows_of_pick(asked, sets, head * size + k)] for k in range(size)])
            for tile in range(len(asked))
        ]
        return jnp.concatenate(tiles, axis=1)

    mixed = []
    for lanes, of_head, owner in _units(heads, count, dim):
        parts = [dot(sums(head), value[:, lanes], dtype) for head in of_head]
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


def sum_over_faces(faces, norms, counts, encode, quality, asked, dtype) -> None:
    """Replaces absorbed queries by the weighted means of features that they attend to.

    Args:
      faces: reference to [b, N, D].
      norms: reference to [R, C] rows, NaN where a slot is to be left out.
      counts: reference to [R, C] rows, how many faces a slot counts as; NaN spoils its set.
      encode: maps [C, 1] norms to [C, D].
      quality: [1, D] direction and power of the learned quality, or nothing.
      asked: see `absorb`.
      dtype: of products.
    """
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
        logits = dot(queries, keys, dtype, transposed=True)
        if quality:
            along = as_row(jnp.sum(features * quality[0], axis=1, keepdims=True))
            logits = logits + (along + quality[1][:, :1] * log_norms(norms[pl.ds(number, 1)]))
        count = jnp.where(same, counts[pl.ds(number, 1)], 0.0)
        logits = jnp.where(count > 0, logits, MASKED_LOGIT)
        weights = jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True)) * count
        weights = weights * inverse(jnp.sum(weights, axis=1, keepdims=True))
        means = dot(weights, features, dtype)
        for tile in range(len(asked)):
            asked[tile][place] = means[:, tile * LANES : (tile + 1) * LANES]
        return 0

    jax.lax.fori_loop(0, rows_of(faces), look, 0)


def dot(left: jax.Array, right: jax.Array, dtype, transposed: bool = False) -> jax.Array:
    """[a, b] and [b, c], or [c, b] if transposed, -> [a, c] float32."""
    return einsum("ab,cb->ac" if transposed else "ab,bc->ac", left, right, dtype=dtype)


def split(array: jax.Array, parts: int) -> list[jax.Array]:
    """Equal parts of the rows."""
    rows = array.shape[0] // parts
    return [array[part * rows : (part + 1) * rows] for part in range(parts)]


def inverse(total: jax.Array) -> jax.Array:
    """1 / total, and 1 for 0."""
    return 1 / jnp.where(total == 0, 1.0, total)


def _quotient(array: jax.Array, divisor: int) -> jax.Array:
    # Neither operand is negative, so there is no sign to look at, as there is in `//`.
    return jax.lax.div(array, jnp.int32(divisor))
