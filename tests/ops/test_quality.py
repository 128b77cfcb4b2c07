"""Learned quality: closed forms, gradients and masks."""

import jax
import numpy as np
from jax.test_util import check_grads

from fpsset.ops import quality

face_quality, quality_shares = jax.jit(quality.face_quality), jax.jit(quality.quality_shares)


def test_closed_form():
    features, norms = np.float32([[3, 4], [0, 2]]), np.float32([5, 2])
    found = face_quality(features, norms, np.float32([1, -0.5]), np.float32(2))
    np.testing.assert_allclose(found, [1 + 2 * np.log(5), -1 + 2 * np.log(2)], rtol=1e-6)


def test_a_norm_of_zero_is_finite_and_so_is_its_gradient():
    norms = np.float32([0, 3])
    both = jax.jit(jax.value_and_grad(lambda n: face_quality(np.zeros((2, 4)), n, np.ones(4), 3.0).sum()))
    value, grad = both(norms)
    np.testing.assert_allclose(value, 3 * (np.log(1e-6) + np.log(3)), rtol=1e-6)
    np.testing.assert_allclose(grad, [0, 1])


def test_gradients():
    rng = np.random.default_rng(0)
    features, direction = rng.standard_normal((5, 4)), rng.standard_normal(4)
    check_grads(face_quality, (features, rng.uniform(1, 5, 5), direction, 2.0), 2)
    mask = np.arange(5) < 3
    check_grads(lambda q: quality_shares(q, mask), (rng.standard_normal(5),), 2, rtol=1e-2)


def test_shares_are_a_softmax_over_what_is_real():
    quality = np.float32([[700, 700 + np.log(3), np.nan], [np.inf, np.nan, 0]])
    mask = np.array([[True, True, False], [False, False, False]])
    np.testing.assert_allclose(quality_shares(quality, mask), [[0.25, 0.75, 0], [0, 0, 0]], rtol=1e-4)
    grad = jax.jit(jax.grad(lambda q: quality_shares(q, mask)[0, 0]))(quality)
    np.testing.assert_allclose(grad, [[0.1875, -0.1875, 0], [0, 0, 0]], rtol=1e-4)
