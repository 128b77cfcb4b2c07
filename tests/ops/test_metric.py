"""The norm-weighted metric against its formula, computed by NumPy in float64."""

import jax
import numpy as np
import pytest
from hypothesis import given

from fpsset.ops import masking, metric
from tests.sets import kinds, make_set, seeds, sizes

norm_weighted_distance = jax.jit(metric.norm_weighted_distance)
gradients_of_weight = jax.jit(jax.grad(lambda n, g: metric.norm_weight(n, g).sum(), argnums=(0, 1)))


@given(seeds, sizes, kinds)
def test_formula(seed, size, kind):
    embeddings, norms = make_set(seed, size, kind)
    center = embeddings[seed % size]
    expected = np.power(norms.astype(np.float64), 0.35) * (1 - embeddings.astype(np.float64) @ center) / 2
    np.testing.assert_allclose(norm_weighted_distance(embeddings, norms, center, 0.35), expected, atol=2e-6)


def test_gamma_zero_is_half_the_cosine_distance():
    embeddings, norms = make_set(0, 5, "zero_norms")
    distance = norm_weighted_distance(embeddings, norms, embeddings[2], 0.0)
    np.testing.assert_allclose(distance, (1 - embeddings @ embeddings[2]) / 2, atol=1e-6)
    assert abs(distance[2]) < 1e-6


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.35, 1.0, -0.5])
def test_gradients_are_finite_at_norm_zero(gamma):
    assert all(np.isfinite(g).all() for g in gradients_of_weight(np.zeros(3, "f"), gamma))


def test_bfloat16_embeddings_are_reduced_in_float32():
    embeddings, norms = make_set(1, 40, dim=512)
    half = embeddings.astype(jax.numpy.bfloat16)
    distance = norm_weighted_distance(half, norms, half[0], 0.35)
    assert distance.dtype == np.float32
    np.testing.assert_allclose(
        distance, norm_weighted_distance(half.astype("float32"), norms, half[0].astype("float32"), 0.35)
    )


def test_the_zero_vector_has_length_and_gradient_zero():
    length, slope = jax.jit(jax.value_and_grad(masking.safe_length))(np.zeros(4, "f"))
    assert length == 0
    np.testing.assert_array_equal(slope, np.zeros(4))
    direction, length = jax.jit(masking.normalize)(np.array([[3.0, 4.0], [0.0, 0.0]], "f"))
    np.testing.assert_allclose(direction, [[0.6, 0.8], [0, 0]])
    np.testing.assert_allclose(length, [5, 0])
