"""The norm encoding against its formula in float64, and against a textbook LayerNorm."""

import jax
import numpy as np
import pytest

from fpsset.ops import norm_encoding
from fpsset.ops.norm_encoding import sine_of_turns

encode_norms = jax.jit(norm_encoding.encode_norms, static_argnums=1)

NORMS = np.concatenate([[0.0], np.geomspace(1e-3, 300, 40)]).astype(np.float32)


def expected(norms, dim):
    turns = norms.astype(np.float64)[:, None] / 10000 ** (np.arange(0, dim, 2) / dim)
    waves = np.empty((len(norms), dim))
    waves[:, 0::2], waves[:, 1::2] = np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)
    return waves


def test_formula():
    found = np.asarray(encode_norms(NORMS, 512))
    np.testing.assert_allclose(found, expected(NORMS, 512), atol=3e-4)
    np.testing.assert_allclose(found[:30], expected(NORMS[:30], 512), atol=5e-5)


def test_sine_and_its_slope():
    turns = np.concatenate([np.linspace(-2, 2, 4001), [1e-7, -1e-7, 0.5, -0.5, 0.25]]).astype(np.float32)
    exact = 2 * np.pi * turns.astype(np.float64)
    sine, slope = jax.jit(jax.vmap(jax.value_and_grad(sine_of_turns)))(turns)
    np.testing.assert_allclose(sine, np.sin(exact), atol=1.5e-6)
    np.testing.assert_allclose(slope, 2 * np.pi * np.cos(exact), atol=1e-5)


def test_layer_norm_by_the_fixed_second_moment():
    rng = np.random.default_rng(0)
    scale, bias = rng.standard_normal((2, 512)).astype(np.float32)
    waves = expected(NORMS[:30], 512)
    textbook = (waves - waves.mean(-1, keepdims=True)) / np.sqrt(waves.var(-1, keepdims=True) + 1e-5)
    got = jax.jit(norm_encoding.normalized_norm_encoding)(NORMS[:30], scale, bias)
    np.testing.assert_allclose(got, textbook * scale + bias, atol=3e-4)


def test_odd_width_is_an_error():
    with pytest.raises(ValueError, match="even"):
        encode_norms(NORMS, 7)
