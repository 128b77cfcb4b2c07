"""Farthest-point sampling of a block of sets within a TPU kernel: the same picks as `ops.sampling`.

Faces lie with D on lanes. What is one number a face lies in rows, faces on lanes: a row is as many sets as
fill 128 lanes, or one larger set. So a pass over the faces takes a row at a time, and what is decided between
two passes takes a few registers for all sets of the block.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from fpsset.ops.metric import norm_weight

LANES = 128


def pick_in_block(faces, norms, mask, gamma, marks, chosen, apart, features, found):
    """Picks K faces of each of b sets.

    Args:
      faces: reference to [b, N, D]; padding may hold anything.
      norms: reference to [R, C] rows, 0 in padded slots; R may exceed the rows that b sets fill.
      mask: [R, C] bool, True where a slot holds a face.
      gamma: [1, 1] exponent of norms in the metric.
      marks: reference to [R, C], to work in.
      chosen: another.
      apart: another.
      features: reference to [K, b, D], becomes the features of the picks, 0 where there is none.
      found: reference to [K, b, 1], becomes 1 for picks and 0 where there is none.

    Returns:
      (For each pick [R, C] int32 slots, the same on all lanes of a set and -1 where there is none; [R, C]
      bool, True where a face is not finite.)
    """
    slots = faces.shape[1]
    place = jax.lax.rem(jax.lax.broadcasted_iota(jnp.int32, norms.shape, 1), jnp.int32(slots))
    weights = norm_weight(norms[...], gamma)
    left, score, distance = mask, norms[...], jnp.full(norms.shape, jnp.inf)
    indices, spoiled = [], None
    for k in range(len(features)):
        marks[...] = jnp.where(_largest(score, left, slots), 1.0, 0.0)

        @pl.when(_tied(marks[...], slots) > 0)
        def _():
            _break_ties(faces, norms, place, marks, chosen, apart)

        index = over_set(jnp.maximum, jnp.where(marks[...] > 0, place, -1), slots)
        indices.append(index)
        chosen[...] = jnp.where(place == index, 1.0, 0.0)
        left = left & (place != index)
        # After the last pick too where it is the only one, for any face that is not finite shows here.
        measured = k == 0 or k + 1 < len(features)
        _look(
            faces,
            chosen,
            apart if measured else None,
            functools.partial(_keep, features.at[k], found.at[k], norms),
        )
        if measured:
            distance = jnp.minimum(distance, weights * (apart[...] / 4))
            score = distance
        if k == 0:
            spoiled = mask & ~((jnp.abs(distance) < jnp.inf) & (jnp.abs(norms[...]) < jnp.inf))
    return indices, spoiled


def rows_of(faces) -> int:
    """Rows that the sets of a block fill."""
    sets, slots, _ = faces.shape
    return sets * slots // max(slots, LANES)


def members_of(faces) -> int:
    """Sets in a row."""
    return max(1, LANES // faces.shape[1])


def as_column(row: jax.Array) -> jax.Array:
    """[1, C] -> [C, 1]."""
    parts = [
        jnp.sum(jnp.where(_eye(), row[:, start : start + LANES], 0.0), axis=1, keepdims=True)
        for start in range(0, row.shape[1], LANES)
    ]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def as_row(column: jax.Array) -> jax.Array:
    """[C, 1] -> [1, C]."""
    parts = [
        jnp.sum(jnp.where(_eye(), column[start : start + LANES], 0.0), axis=0, keepdims=True)
        for start in range(0, column.shape[0], LANES)
    ]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)


def over_set(combine: Callable, values: jax.Array, slots: int) -> jax.Array:
    """[R, C] -> [R, C], values of each set combined by maximum, minimum or sum, on all of its lanes."""
    width = values.shape[1]
    whole = {jnp.maximum: jnp.max, jnp.minimum: jnp.min, jnp.add: jnp.sum}[combine]
    if slots == width:
        return jnp.broadcast_to(whole(values, axis=1, keepdims=True), values.shape)
    lane = jax.lax.broadcasted_iota(jnp.int32, values.shape, 1)
    reach = 1
    while reach < slots:
        ahead, behind = pltpu.roll(values, width - reach, 1), pltpu.roll(values, reach, 1)
        values = combine(values, jnp.where(lane & reach == 0, ahead, behind))
        reach *= 2
    return values


def of_members(row: jax.Array, members: int) -> jax.Array:
    """[1, C] -> [members, C], each set's part of the row and 0 elsewhere."""
    if members == 1:
        return row
    shape = members, row.shape[1]
    owner = jax.lax.div(jax.lax.broadcasted_iota(jnp.int32, shape, 1), jnp.int32(row.shape[1] // members))
    return jnp.where(owner == jax.lax.broadcasted_iota(jnp.int32, shape, 0), row, 0.0)


def _look(faces, chosen, apart, keep: Callable | None = None) -> None:
    """Reads the chosen face of each set and, unless None, writes squared distances to it to `apart`."""
    members = members_of(faces)

    def look(number, _):
        block = faces[pl.ds(number * members, members)]
        here = as_column(chosen[pl.ds(number, 1)]).reshape(*block.shape[:2], 1)
        center = jnp.sum(jnp.where(here > 0, block, 0.0), axis=1, keepdims=True)
        if keep is not None:
            keep(number, chosen[pl.ds(number, 1)], center[:, 0])
        if apart is not None:
            squared = jnp.sum(jnp.square(block - center), axis=2, keepdims=True)
            apart[pl.ds(number, 1)] = as_row(squared.reshape(-1, 1))
        return 0

    jax.lax.fori_loop(0, rows_of(faces), look, 0)


def _keep(features, found, norms, number, chosen: jax.Array, center: jax.Array) -> None:
    """Stores the picks of a row of sets, whose faces are `center`."""
    members, _ = center.shape
    rows = jnp.where(chosen > 0, norms[pl.ds(number, 1)], 0.0), chosen
    norm, any_face = (jnp.sum(of_members(row, members), axis=1, keepdims=True) for row in rows)
    for array, values in ((features, center * norm), (found, any_face)):
        if members % 8 == 0:
            array[pl.ds(pl.multiple_of(number * members, 8), members)] = values
            continue
        for member in range(members):
            array[pl.ds(number * members + member, 1)] = values[member : member + 1]


def _break_ties(faces, norms, place, marks, chosen, apart) -> None:
    """Narrows the faces that are marked in `marks` as `ops.ties` does."""
    _, slots, dim = faces.shape
    members = members_of(faces)

    def narrow(state):
        column, _ = state

        def read(number, _):
            block = faces[pl.ds(number * members, members)]
            lane = jax.lax.broadcasted_iota(jnp.int32, block.shape, 2)
            value = jnp.sum(jnp.where(lane == column, block, 0.0), axis=2, keepdims=True)
            apart[pl.ds(number, 1)] = as_row(value.reshape(-1, 1))
            return 0

        jax.lax.fori_loop(0, rows_of(faces), read, 0)
        marked = jnp.where(_largest(apart[...], marks[...] > 0, slots), 1.0, 0.0)
        first = over_set(jnp.minimum, jnp.where(marked > 0, place, slots), slots)
        chosen[...] = jnp.where(place == first, 1.0, 0.0)
        _look(faces, chosen, apart)
        marks[...] = jnp.where((apart[...] > 0) | (place == first), marked, 0.0)
        return column + 1, _tied(marks[...], slots)

    marks[...] = jnp.where(_largest(norms[...], marks[...] > 0, slots), 1.0, 0.0)
    jax.lax.while_loop(
        lambda state: (state[0] < dim) & (state[1] > 0), narrow, (jnp.int32(0), _tied(marks[...], slots))
    )


def _tied(marks: jax.Array, slots: int) -> jax.Array:
    return (jnp.max(over_set(jnp.add, marks, slots)) > 1).astype(jnp.int32)


def _largest(values: jax.Array, left: jax.Array, slots: int) -> jax.Array:
    """Narrows [R, C] bool to the faces with the largest value, and to some of them where one is NaN."""
    return left & ~(values < over_set(jnp.maximum, jnp.where(left, values, -jnp.inf), slots))


def _eye() -> jax.Array:
    shape = LANES, LANES
    return jax.lax.broadcasted_iota(jnp.int32, shape, 0) == jax.lax.broadcasted_iota(jnp.int32, shape, 1)
