"""The model of faces behind the default set model, against its closed forms."""

import jax
import numpy as np
import pytest

from fpsset.ops import posterior

DIM = 8
posterior_mean, near_copies = jax.jit(posterior.posterior_mean), jax.jit(posterior.near_copies)


@jax.jit
def expected_precision(quality, bias):
    return posterior.face_precision(posterior.expected_cosine(quality, bias))


@pytest.fixture(scope="module")
def given():
    """(Means [5, D], precisions [5], basis [D, D], variances [D])."""
    rng = np.random.default_rng(0)
    arrays = rng.standard_normal((5, DIM)), rng.uniform(0.1, 9, 5), rng.standard_normal((DIM, DIM))
    return (*(x.astype(np.float32) for x in arrays), rng.uniform(0.2, 3, DIM).astype(np.float32))


def test_without_noise_the_posterior_is_the_projected_mean(given):
    mean, precision, basis, variance = given
    found = posterior_mean(mean, precision, basis, variance, np.float32(0))
    np.testing.assert_allclose(found, mean @ basis, atol=1e-5)


def test_under_much_noise_only_variance_tells_directions_apart(given):
    mean, precision, basis, variance = given
    found = posterior_mean(mean, precision, basis, variance, np.float32(1e6))
    np.testing.assert_allclose(
        1e6 * found / precision[:, None], (mean @ basis) * variance, rtol=1e-4, atol=1e-4
    )


def test_the_posterior_solves_the_gaussian_model(given):
    """(B^-1 + P)^-1 P x for the prior covariance B and the noise precision P."""
    mean, precision, basis, variance = given
    found = posterior_mean(mean, precision, basis, variance, np.float32(0.7))
    for x, p, y in zip(mean @ basis, precision, found, strict=True):
        noise = np.eye(DIM) * p / 0.7
        expected = np.linalg.solve(np.diag(1 / variance) + noise, noise @ x)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_precision_rises_with_the_expected_cosine_and_stays_finite():
    precision = np.asarray(expected_precision(np.linspace(-100, 100, 401, dtype=np.float32), 0.5))
    assert np.isfinite(precision).all() and (np.diff(precision) >= 0).all()
    np.testing.assert_allclose(
        precision[[0, -1]], [0.05**2 / (1 - 0.05**2), 0.95**2 / (1 - 0.95**2)], rtol=1e-4
    )
    assert jax.jit(posterior.face_precision)(np.float32(0.6)) == pytest.approx(0.36 / 0.64)
    gradient = jax.jit(jax.grad(lambda x: expected_precision(x, 0.0).sum()))
    assert np.isfinite(gradient(np.float32([-1e30, 0.0, 0.5, 1e30]))).all()


def test_a_face_is_a_copy_of_its_nearest_pick_alone():
    cosines = np.float32([[0.99, 0.2, 0.9, -1.0], [0.95, 0.91, 0.1, -1.0]])
    copies = np.asarray(near_copies(cosines, np.float32(0.9)))
    assert (copies[:, 0] > [0.9, -1]).all() and copies[1, 0] == copies[0, 1] == copies[1, 2] == 0
    assert copies[0, 2] == pytest.approx(0.5) and 0.5 < copies[1, 1] < 0.7
    assert not copies[:, 3].round(6).any()
