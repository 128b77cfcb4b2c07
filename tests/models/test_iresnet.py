"""Backbones: the trained and the folded form agree, sizes are as published, and training works."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fpsset
from fpsset.images import embedding
from fpsset.models.iresnet import ARCHITECTURES, IResNet, IResNetConfig, config_of, fold
from tests.torch_files import random_variables

SMALL = {
    "adaface": IResNetConfig((1, 2, 1, 1), width=8),
    "insightface": IResNetConfig((1, 2, 1, 1), "insightface", width=8),
    "bottleneck": IResNetConfig((2, 1, 1, 1), bottleneck=True, width=8),
    # Narrower, some of its gradients are zero.
    "squeeze_excite": IResNetConfig((2, 1, 1, 1), squeeze_excite=True, width=32),
    "both": IResNetConfig((1, 1, 1, 2), bottleneck=True, squeeze_excite=True, width=8),
}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (2, 112, 112, 3)).astype(np.float32)


@functools.cache
def shapes_of(config):
    return jax.eval_shape(IResNet(config).init, jax.random.key(0), np.zeros((1, 112, 112, 3), np.float32))


@pytest.mark.parametrize("config", SMALL.values(), ids=SMALL)
def test_folding_changes_nothing(config, images):
    @jax.jit
    def both(variables):
        folded = fold(variables)
        trained = IResNet(config).apply(variables, images)
        return folded, trained, IResNet(config, folded=True).apply(folded, images)

    variables = random_variables(config)
    folded, (want, want_norms), (got, norms) = both(variables)
    np.testing.assert_allclose(got, want, atol=2e-6)
    np.testing.assert_allclose(norms, want_norms, rtol=1e-5)
    shapes = jax.eval_shape(IResNet(config, folded=True).init, jax.random.key(0), images)
    chex.assert_trees_all_equal_shapes(folded, shapes)
    assert config_of(variables) == config_of(folded) == config


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_are_told_from_their_variables(name):
    config = ARCHITECTURES[name]
    shapes = shapes_of(config)
    assert config_of(shapes) == config and config.name == name
    assert config_of(jax.eval_shape(fold, shapes)) == config


@pytest.mark.parametrize(
    "name, millions", [("ir_18", 24.02), ("ir_50", 43.58), ("ir_101", 65.15), ("iresnet100", 65.15)]
)
def test_known_sizes(name, millions):
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes_of(ARCHITECTURES[name])["params"]))
    assert abs(count / 1e6 - millions) < 0.02


def test_embeddings_are_unit_rows_in_float32(images):
    folded = fold(random_variables(SMALL["adaface"]))
    for dtype in (jnp.float32, jnp.bfloat16):
        embeddings, norms = fpsset.embed(folded, images, dtype)
        chex.assert_shape([embeddings, norms], [(2, 512), (2,)])
        chex.assert_type([embeddings, norms], jnp.float32)
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=-1), 1, atol=1e-6)


def test_one_compilation_an_architecture_and_batch_size(images):
    variables = random_variables(SMALL["adaface"])
    program = embedding._runner(SMALL["adaface"], jnp.dtype(jnp.float32), None)
    before = program._cache_size()
    for seed in (1, 2):
        fpsset.embed(random_variables(SMALL["adaface"], seed), images[:1])
    assert program._cache_size() == before + 1
    as_trained, folded = fpsset.embed(variables, images[:1]), fpsset.embed(fold(variables), images[:1])
    assert program._cache_size() == before + 1
    np.testing.assert_allclose(as_trained[0], folded[0], atol=2e-6)


def test_training(images):
    """Gradients reach every parameter, batch statistics change, and dropout is random."""
    net, variables = IResNet(SMALL["squeeze_excite"]), random_variables(SMALL["squeeze_excite"])

    def loss(params, key):
        out, updated = net.apply(
            {**variables, "params": params},
            images,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return jnp.sum(out[0][0] * out[0][1]) + out[1].sum(), updated["batch_stats"]

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (first, stats), grads = jax.device_get(step(variables["params"], jax.random.key(1)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, jax.tree_util.keystr(path)
    for before, after in zip(jax.tree.leaves(variables["batch_stats"]), jax.tree.leaves(stats), strict=True):
        assert not np.allclose(before, after)
    (second, _), _ = step(variables["params"], jax.random.key(2))
    assert first != second


def test_bad_input(images):
    folded = fold(random_variables(SMALL["adaface"]))
    net = IResNet(SMALL["adaface"], folded=True)
    with pytest.raises(ValueError, match="no batch statistics"):
        net.apply(folded, images, train=True)
    with pytest.raises(ValueError, match=r"\[B, 112, 112, 3\]"):
        net.apply(folded, images[:, :56])
    with pytest.raises(fpsset.InputError, match=r"\[B, 112, 112, 3\], not \[112, 112, 3\]"):
        fpsset.embed(folded, images[0])
    for wrong in ({}, {"params": {"gamma": 1}}, {"backbone": folded}):
        with pytest.raises(fpsset.InputError, match="not variables of a backbone"):
            fpsset.embed(wrong, images)
