"""The order among faces whose scores tie."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpsset.ops.ties import best_face, outranks, ranked
from tests.sets import make_set, seeds, sizes, tied_kinds

SLOTS = 64  # of every set, so that few programs are compiled


@given(seeds, sizes, tied_kinds, st.sampled_from((3, 16, 21)))
def test_the_first_of_the_ranking_is_the_best_face(seed, size, kind, dim):
    """By tuples, in NumPy and in JAX; `dim` is below, at and not a multiple of the channels of a slice."""
    faces, norms = make_set(seed, size, kind, dim)
    scores = np.random.default_rng(seed).integers(0, 3, size).astype(np.float32)
    keys = [(scores[i], norms[i], *faces[i], -i) for i in range(size)]
    wanted = sorted(range(size), key=lambda i: keys[i], reverse=True)
    assert ranked(scores, norms, faces).tolist() == wanted
    available = np.random.default_rng(seed + 1).random(size) < 0.7
    left = [i for i in wanted if available[i]]
    slots = (
        np.pad(array, [(0, SLOTS - size)] + [(0, 0)] * (array.ndim - 1)) for array in (scores, norms, faces)
    )
    assert not left or int(best_face(*slots, np.pad(available, (0, SLOTS - size)))) == left[0]
    for i, j in itertools.pairwise(wanted):
        is_copy = keys[i][:-1] == keys[j][:-1]
        assert outranks(scores[i], norms[i], faces[i], (scores[j], norms[j], faces[j])) == (not is_copy)
        assert not outranks(scores[j], norms[j], faces[j], (scores[i], norms[i], faces[i]))


@pytest.mark.parametrize("bad", ["score", "norm", "embedding"])
def test_a_face_that_is_not_finite_leaves_a_face_of_the_set(bad):
    """What is picked does not matter then, except that it is no padded slot."""
    faces, norms = make_set(0, 5)
    scores, available = np.ones(5, np.float32), np.arange(5) > 0
    if bad == "score":
        scores[2] = np.nan
    elif bad == "norm":
        norms[2] = np.nan
    else:
        norms[:], faces[2] = 1, np.nan
    assert int(best_face(scores, norms, faces, available)) > 0
