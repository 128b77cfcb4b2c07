"""A stream of faces that are not kept, against the batch where it fits, and within its bound."""

import jax
import numpy as np
import pytest

import fpsset
from fpsset.weights import AggregatorCard
from tests.sets import make_set

DIM = 16


def make_model(seed=0):
    net = fpsset.FaceCoresetNet(num_heads=4)
    faces = fpsset.FaceSet(*make_set(0, 4, dim=DIM), np.ones(4, bool))
    params = jax.tree.map(np.asarray, net.init(jax.random.key(seed), faces)["params"])
    return fpsset.Aggregator(params, AggregatorCard(3, 4, DIM, 1.5))


@pytest.fixture(scope="module")
def model():
    return make_model()


def batch(model, embeddings, norms):
    vectors, lengths, picks = model.aggregate(embeddings, norms, np.zeros(len(norms), int), True)
    return vectors[0], lengths[0], picks[0]


def test_a_stream_that_fits_is_the_batch(model):
    embeddings, norms = make_set(3, 40, dim=DIM)
    stream = fpsset.StreamingAggregator(model, size=64)
    for start in range(0, 40, 7):
        stream.update(embeddings[start : start + 7], norms[start : start + 7])
    vector, norm = stream.descriptor()
    expected = batch(model, embeddings, norms)
    np.testing.assert_allclose(vector, expected[0], atol=1e-5)
    np.testing.assert_allclose(norm, expected[1], rtol=1e-4)


def test_a_clip_takes_one_place_and_weighs_as_its_frames(model):
    embeddings, norms = make_set(4, 6, dim=DIM)
    rows = np.repeat(np.arange(6), [500, 1, 1, 1, 1, 1])
    stream = fpsset.StreamingAggregator(model, size=6).update(embeddings[rows], norms[rows])
    assert len(stream) == 6 and stream.faces == 505
    expected = batch(model, embeddings[rows], norms[rows])
    np.testing.assert_allclose(stream.descriptor()[0], expected[0], atol=1e-5)


def farthest(embeddings, stream):
    """Of the faces from their nearest representative."""
    return np.linalg.norm(embeddings[:, None] - stream._cover.centers[None], axis=-1).min(axis=1).max()


@pytest.mark.parametrize("growth", [1.1, 2.0])
def test_every_face_is_within_the_bound(model, growth):
    embeddings, norms = make_set(5, 400, dim=DIM)
    halves = [fpsset.StreamingAggregator(model, 16, growth) for _ in range(2)]
    for half, part in zip(halves, (slice(0, 200), slice(200, 400)), strict=True):
        for row in range(part.start, part.stop, 5):
            half.update(embeddings[row : row + 5], norms[row : row + 5])
        assert len(half) <= 16
        assert farthest(embeddings[part], half) <= half.radius + 1e-3
        assert half.radius <= 2 * growth**2 / (growth - 1) * half.least_radius
    stream = halves[0].merge(halves[1])
    assert stream.faces == 400 and len(stream) <= 16
    assert farthest(embeddings, stream) <= stream.radius + 1e-3


def test_save_and_load(model, tmp_path):
    stream = fpsset.StreamingAggregator(model, size=8).update(*make_set(6, 30, dim=DIM))
    stream.save(tmp_path / "stream.npz")
    again = fpsset.StreamingAggregator.load(tmp_path / "stream.npz", model)
    for summary in (stream, again):
        summary.update(*make_set(7, 30, dim=DIM))
    np.testing.assert_array_equal(again.descriptor()[0], stream.descriptor()[0])
    with pytest.raises(fpsset.InputError, match="made with the model"):
        fpsset.StreamingAggregator.load(tmp_path / "stream.npz", make_model(1))
    with pytest.raises(fpsset.InputError, match="cannot join"):
        stream.merge(fpsset.StreamingAggregator(make_model(1), size=8))
