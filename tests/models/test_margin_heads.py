"""Margin heads against their closed forms."""

import functools

import jax
import numpy as np
import pytest

import fpsset

DIM, CLASSES, BATCH = 8, 5, 6


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    descriptor = rng.standard_normal((BATCH, DIM)).astype(np.float32)
    descriptor /= np.linalg.norm(descriptor, axis=-1, keepdims=True)
    norm = rng.uniform(5, 40, BATCH).astype(np.float32)
    return descriptor, norm, rng.integers(0, CLASSES, BATCH)


def init(head, *batch):
    return jax.device_get(jax.jit(head.init)(jax.random.key(0), *batch))


def run(head, batch, **kwargs):
    variables = init(head, *batch)
    kernel = variables["params"]["kernel"]
    logits = jax.jit(functools.partial(head.apply, **kwargs))(variables, *batch)
    return variables, batch[0] @ (kernel / np.linalg.norm(kernel, axis=0)), logits


def gradient(head, variables, batch, place):
    """That of the sum of logits to one of the arrays of the batch."""
    return jax.jit(jax.grad(lambda *batch: head.apply(variables, *batch).sum(), argnums=place))(*batch)


def expected(cosine, labels, angular, additive, scale):
    moved = np.cos(np.clip(np.arccos(cosine) + angular, 1e-3, np.pi - 1e-3)) - additive
    return scale * np.where(np.arange(CLASSES) == labels[:, None], moved, cosine)


def test_arcface(batch):
    _, cosine, logits = run(fpsset.ArcFaceHead(CLASSES, margin=0.5), batch)
    np.testing.assert_allclose(logits, expected(cosine, batch[2], 0.5, 0.0, 64.0), rtol=1e-4, atol=1e-3)


def test_cosface(batch):
    _, cosine, logits = run(fpsset.CosFaceHead(CLASSES), batch)
    np.testing.assert_allclose(logits, expected(cosine, batch[2], 0.0, 0.35, 64.0), rtol=1e-4, atol=1e-3)


def test_adaface_updates_its_statistics_before_use(batch):
    head = fpsset.AdaFaceHead(CLASSES)
    variables, cosine, (logits, updated) = run(head, batch, train=True, mutable=["batch_stats"])
    assert float(variables["batch_stats"]["mean"]) == 20 and float(variables["batch_stats"]["std"]) == 100
    mean = 0.99 * 20 + 0.01 * batch[1].mean()
    std = 0.99 * 100 + 0.01 * batch[1].std(ddof=1)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["std"], std, rtol=1e-6)
    z = np.clip(0.333 * (batch[1] - mean) / (std + 1e-3), -1, 1)[:, None]
    np.testing.assert_allclose(
        logits, expected(cosine, batch[2], -0.8 * z, 0.8 + 0.8 * z, 48.0), rtol=1e-4, atol=1e-3
    )


def test_adaface_gives_the_norm_no_gradient(batch):
    head = fpsset.AdaFaceHead(CLASSES)
    assert not np.any(gradient(head, init(head, *batch), batch, 1))


@pytest.mark.parametrize("head", [fpsset.AdaFaceHead, fpsset.ArcFaceHead, fpsset.CosFaceHead])
def test_gradients_stay_finite_at_the_poles(head):
    """One descriptor equals the center of its class, and one is opposite to it."""
    head = head(num_classes=DIM)
    descriptor = np.eye(DIM, dtype=np.float32)[:2] * np.array([[1], [-1]], np.float32)
    batch = descriptor, np.ones(2, np.float32), np.arange(2)
    variables = init(head, *batch) | {"params": {"kernel": np.eye(DIM, dtype=np.float32)}}
    assert np.isfinite(gradient(head, variables, batch, 0)).all()
