"""FaceCoresetNet: keys of its randomness, widths, and parameters that the compiler knows."""

import functools

import jax
import numpy as np
import pytest

import fpsset
from tests.sets import make_set, random_coreset_net

DIM = 16
NET = fpsset.FaceCoresetNet(coreset_size=3, num_heads=2)


def _whole(embeddings, norms):
    return fpsset.FaceSet(embeddings, norms, np.ones(len(norms), bool))


@functools.cache
def variables_of(net, dim=DIM):
    return {"params": random_coreset_net(net, dim)}


def test_training_draws_from_the_streams_it_is_given():
    face_set, variables = _whole(*make_set(0, 20, dim=DIM)), variables_of(NET)

    @jax.jit
    def run(gumbel, dropout):
        rngs = {"gumbel": jax.random.key(gumbel), "dropout": jax.random.key(dropout)}
        return NET.apply(variables, face_set, train=True, rngs=rngs)

    first = run(0, 0)
    np.testing.assert_array_equal(first.descriptor, run(0, 0).descriptor)
    assert any(run(i, 0).coreset_indices.tolist() != first.coreset_indices.tolist() for i in range(1, 6))
    other = run(0, 1)
    assert other.coreset_indices.tolist() == first.coreset_indices.tolist()
    assert np.abs(other.descriptor - first.descriptor).max() > 1e-3


def test_no_key_is_used_twice():
    variables, face_set = variables_of(NET), _whole(*make_set(0, 9, dim=DIM))

    @jax.jit
    def run(rngs):
        return NET.apply(variables, face_set, train=True, rngs=rngs)

    @jax.jit
    def twice(key):
        return jax.random.normal(key) + jax.random.normal(key)

    with jax.debug_key_reuse(True):
        run({"gumbel": jax.random.key(0), "dropout": jax.random.key(1)})
        with pytest.raises(jax.errors.KeyReuseError):
            twice(jax.random.key(0))


def test_rejects_widths_that_do_not_split_over_the_heads():
    with pytest.raises(ValueError, match="do not split"):
        variables_of(fpsset.FaceCoresetNet(num_heads=5))


WIDE = fpsset.FaceCoresetNet()


@pytest.fixture(scope="module")
def wide():
    """Two sets of 65 faces, and a function of as many with parameters that are given."""
    apply = jax.jit(WIDE.apply)
    sets = fpsset.pad_sets(*zip(*(make_set(seed, 65, dim=512) for seed in range(2)), strict=True))
    return sets, lambda sets: jax.device_get(apply(variables_of(WIDE, 512), sets))


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 65), (2, 4)])
def test_parameters_may_be_constants_of_the_program(shape, wide):
    """Compilers fold constants and drop axes of length 1, and have had bugs where they do both."""
    (*batch, size), (sets, apply) = shape, wide
    variables = variables_of(WIDE, 512)
    given = apply(sets.replace(mask=sets.mask & (np.arange(65) < size)))
    part = slice(*batch) if batch else 0
    sets = jax.tree.map(lambda array: array[part, :size], sets)
    given = jax.tree.map(lambda array: array[part], given)
    folded = jax.jit(lambda sets: WIDE.apply(variables, sets))(sets)
    np.testing.assert_array_equal(folded.coreset_indices, given.coreset_indices)
    np.testing.assert_allclose(folded.descriptor, given.descriptor, atol=1e-6)
