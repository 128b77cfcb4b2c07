"""Bounds on the work and memory that the compiled model takes per face and per set.

No time is measured. XLA counts the body of a loop once, so the cost of a face is taken from sets of one
block, and the number of blocks is read from the program.
"""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

import fpsset

DIM = 512


def shapes(sets: int, size: int) -> fpsset.FaceSet:
    return fpsset.FaceSet(
        jax.ShapeDtypeStruct((sets, size, DIM), jnp.float32),
        jax.ShapeDtypeStruct((sets, size), jnp.float32),
        jax.ShapeDtypeStruct((sets, size), bool),
    )


@functools.cache
def variables():
    return jax.eval_shape(fpsset.FaceCoresetNet().init, jax.random.key(0), shapes(1, 4))


@functools.cache
def compiled(sets: int, size: int):
    def run(variables, face_set):
        out = fpsset.FaceCoresetNet().apply(variables, face_set)
        return out.descriptor, out.norm, out.coreset_indices

    return jax.jit(run).lower(variables(), shapes(sets, size)).compile()


def flops(sets: int, size: int) -> float:
    return compiled(sets, size).cost_analysis()["flops"]


def test_a_face_costs_its_products_with_the_absorbed_queries():
    """24 logits and 24 weighted sums over 512 channels, two distances, and sines: 33 k multiply-adds."""
    per_face = (flops(1, 1024) - flops(1, 512)) / 512
    assert 2 * 24 * DIM * 2 < per_face < 70e3
    assert (flops(8, 128) - flops(8, 64)) / 512 == pytest.approx(per_face, rel=0.01)


def test_a_set_costs_eight_projections_of_its_coreset():
    per_face = (flops(8, 128) - flops(8, 64)) / 512
    per_set = (flops(16, 64) - flops(8, 64)) / 8 - 64 * per_face
    assert 8 * 3 * DIM * DIM * 2 < per_set < 1.05 * 8 * 3 * DIM * DIM * 2


def test_a_face_is_moved_a_few_times():
    """Its 2 KiB are read twice for the sampling, and once for keys and values that fit in a cache.

    XLA also counts the comparison of exact copies, twice, which runs only where these tie.
    """
    bytes_of = [compiled(1, size).cost_analysis()["bytes accessed"] for size in (512, 1024)]
    assert (bytes_of[1] - bytes_of[0]) / 512 < 16 * 4 * DIM


@pytest.mark.parametrize(("size", "mebibytes"), [(65_536, 16), (1 << 20, 40)])
def test_memory_does_not_grow_with_the_set(size, mebibytes):
    assert compiled(1, size).memory_analysis().temp_size_in_bytes < mebibytes << 20


def test_every_face_is_in_one_block():
    trips = re.findall(r'"known_trip_count":\{"n":"(\d+)"\}', compiled(1, 65_536).as_text())
    assert str(65_536 // 2048) in trips
