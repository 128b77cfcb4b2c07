"""The models fitted in closed form: sets in parts, crowds of copies, and norms that are ignored."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings

import fpsset
from fpsset.models.pooling import WhitenedMedia
from fpsset.models.posterior import PosteriorPooling
from fpsset.ops.attention import merge
from tests.sets import kinds, make_set, random_posterior, random_whitening, seeds

DIM, SIZE = 16, 20
MODELS = {
    "posterior": (PosteriorPooling(3), random_posterior(DIM)),
    "whitened": (WhitenedMedia(3), random_whitening(DIM)),
}


@functools.cache
def jitted(module, method=None):
    apply = jax.jit(functools.partial(module.apply, method=method))
    return lambda *arguments: jax.device_get(apply(*arguments))


@pytest.mark.parametrize("name", MODELS)
@given(seed=seeds, kind=kinds)
@settings(max_examples=8)
def test_parts_merged_are_the_whole(name, seed, kind):
    """Any split into four parts, some of them empty."""
    module, params = MODELS[name]
    variables, (embeddings, norms) = {"params": params}, make_set(seed, SIZE, kind, DIM)
    owner = np.random.default_rng(seed).integers(0, 3, SIZE)
    whole = fpsset.FaceSet(embeddings, norms, np.ones(SIZE, bool))
    coreset = jitted(module, "select")(variables, whole)
    queries = jitted(module, "queries")(variables, coreset)
    look = jitted(module, "look")
    parts = [look(variables, queries, whole.replace(mask=owner == part)) for part in range(4)]
    merged = jitted(module, "conclude")(variables, coreset, functools.reduce(merge, parts))
    expected = jitted(module)(variables, whole)
    np.testing.assert_allclose(merged.descriptor, expected.descriptor, atol=1e-5)
    np.testing.assert_allclose(merged.norm, expected.norm, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", MODELS)
@given(seed=seeds)
@settings(max_examples=4)
def test_attention_is_the_share_of_each_face(name, known, seed):
    module, params = MODELS[name]
    media, mask = np.random.default_rng(seed).integers(0, 5, SIZE).astype(np.int32), np.arange(SIZE) < 17
    sets = fpsset.FaceSet(*make_set(seed, SIZE, dim=DIM), mask, media=media if known else None)
    out, weights = jitted(module, "with_attention")({"params": params}, sets)
    np.testing.assert_allclose(out.descriptor, jitted(module)({"params": params}, sets).descriptor, atol=1e-6)
    assert weights.shape == (1, 3, SIZE) and not np.any(weights[..., 17:])
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1, rtol=1e-5)
    if known:
        alike = params | ({"media_power": np.float32(0)} if name == "posterior" else {})
        weights = jitted(module, "with_attention")({"params": alike}, sets)[1][0, 0, :17]
        shares = [weights[media[:17] == m].sum() for m in np.unique(media[:17])]
        np.testing.assert_allclose(shares, 1 / len(shares), rtol=1e-4)


def test_media_weigh_by_a_power_of_their_precision():
    module, params = MODELS["posterior"]
    embeddings, norms = make_set(3, SIZE, dim=DIM)
    media = np.resize(np.array([0, 0, 0, 3, 3, 5], np.int32), SIZE)
    sets = fpsset.FaceSet(embeddings, norms, np.arange(SIZE) < 6, media=media)
    attend = jitted(module, "with_attention")
    even, weighed = (
        attend({"params": params | {"media_power": np.float32(power)}}, sets)[1][0, 0, :6] for power in (0, 1)
    )
    embeddings, norms, media = embeddings[:6], norms[:6], media[:6]
    log_norms = params["quality_power"] * np.log(norms)
    cosine = norms * (embeddings @ params["quality_direction"]) + log_norms + params["quality_bias"]
    cosine = np.clip(cosine, 0.05, 0.95)
    precision = cosine**2 / (1 - cosine**2)
    total = np.array([(even * precision)[media == m].sum() / even[media == m].sum() for m in media])
    np.testing.assert_allclose(weighed, even * total / (even * total).sum(), rtol=1e-4)


def test_a_crowd_of_near_copies_counts_as_one_face_where_media_are_unknown():
    module = PosteriorPooling(3)
    params = random_posterior(DIM) | {
        "drift": np.zeros((2, DIM), np.float32),
        "quality_direction": np.zeros(DIM, np.float32),
        "basis": np.eye(DIM, dtype=np.float32),
        "noise": np.float32(0),
        "copy_cosine": np.float32(0.8),
    }
    rng = np.random.default_rng(0)
    faces, norms = make_set(0, 4, dim=DIM)[0], np.float32([20, 10, 10, 10])
    rows = np.repeat(np.arange(4), [200, 1, 1, 1])
    crowd = faces[rows] + 0.01 * rng.standard_normal((len(rows), DIM)).astype(np.float32)
    crowd /= np.linalg.norm(crowd, axis=1, keepdims=True)
    rest = len(rows) - len(faces)
    few, many = (
        jitted(module)({"params": params}, fpsset.FaceSet(*arrays, mask)).descriptor
        for *arrays, mask in (
            (np.pad(faces, ((0, rest), (0, 0))), np.pad(norms, (0, rest)), np.arange(len(rows)) < len(faces)),
            (crowd, norms[rows], np.ones(len(rows), bool)),
        )
    )
    assert many @ few > 0.999
    assert crowd.mean(axis=0) @ few < 0.95


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_norms_that_are_ignored_change_nothing(name, known):
    module, params = MODELS[name]
    module = module.clone(ignores_norms=True)
    embeddings, norms = make_set(1, SIZE, dim=DIM)
    media = np.arange(SIZE, dtype=np.int32) // 3 if known else None
    mask = np.arange(SIZE) < 17
    one, other, zero = (
        jitted(module)({"params": params}, fpsset.FaceSet(embeddings, n, mask, media=media))
        for n in (norms, norms[::-1].copy(), np.zeros_like(norms))
    )
    for out in (other, zero):
        jax.tree.map(np.testing.assert_array_equal, out, one)
    sets = fpsset.FaceSet(embeddings, norms, mask, media=media)
    heeded = jitted(MODELS[name][0])({"params": params}, sets)
    assert np.abs(heeded.descriptor - one.descriptor).max() > 1e-3
