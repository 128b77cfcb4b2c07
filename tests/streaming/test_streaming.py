"""Streaming equals the batch result as long as all faces fit, and stays within its bounds after that."""

import functools

import jax
import numpy as np
import pytest

import fpsset
from fpsset.ops.metric import cosines_on_host
from fpsset.streaming.running_picks import RunningPicks
from fpsset.streaming.uniform_sample import UniformSample
from fpsset.weights.cards import AggregatorCard
from tests.sets import DESCRIBED, make_set, random_coreset_net

DIM = 16
NET = fpsset.FaceCoresetNet(num_heads=2)


def make_model(seed=0):
    return fpsset.Aggregator(random_coreset_net(NET, DIM, seed), AggregatorCard(3, 2, DIM, 1.5))


@pytest.fixture(scope="module")
def model():
    return make_model()


def batch(model, embeddings, norms):
    found = model.aggregate(embeddings, norms)
    return found.descriptors[0], found.norms[0], found.coreset[0]


def test_a_stream_that_fits_is_the_batch(model):
    embeddings, norms = make_set(3, 8, dim=DIM)
    stream = fpsset.StreamingAggregator(model, size=8)
    for start in range(0, 8, 3):
        stream.update(embeddings[start : start + 3], norms[start : start + 3])
    vector, norm = stream.descriptor()
    expected = batch(model, embeddings, norms)
    np.testing.assert_allclose(vector, expected[0], atol=1e-5)
    np.testing.assert_allclose(norm, expected[1], rtol=1e-4)


@pytest.mark.parametrize("kind", DESCRIBED)
def test_ties_are_broken_as_in_a_batch_whatever_the_order(model, kind):
    embeddings, norms = make_set(3, 24, kind, DIM)
    wanted = batch(model, embeddings, norms)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(24)
        stream = fpsset.StreamingAggregator(model, size=24)
        for row in range(0, 24, 5):
            stream.update(embeddings[order[row : row + 5]], norms[order[row : row + 5]])
        distinct = len(stream._picks.norms)
        np.testing.assert_allclose(stream._picks.faces, embeddings[wanted[2]][:distinct], atol=1e-6)
        np.testing.assert_array_equal(stream._picks.norms, 1.5 * norms[wanted[2]][:distinct])


def test_a_clip_takes_one_place_and_weighs_as_its_frames(model):
    embeddings, norms = make_set(4, 6, dim=DIM)
    rows = np.repeat(np.arange(6), [50, 1, 1, 1, 1, 1])
    stream = fpsset.StreamingAggregator(model, size=8).update(embeddings[rows], norms[rows])
    assert len(stream) == 6 and stream.faces == 55
    expected = batch(model, embeddings[rows], norms[rows])
    np.testing.assert_allclose(stream.descriptor()[0], expected[0], atol=1e-5)


def farthest(embeddings, stream):
    """The largest distance of a face to its nearest representative."""
    return np.linalg.norm(embeddings[:, None] - stream._k_center.centers[None], axis=-1).min(axis=1).max()


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


def summary(model, embeddings, norms, size=8):
    stream = fpsset.StreamingAggregator(model, size)
    for row in range(0, len(norms), 7):
        stream.update(embeddings[row : row + 7], norms[row : row + 7])
    return stream


def test_merging_is_associative_while_all_fit(model):
    embeddings, norms = make_set(8, 6, dim=DIM)
    rows = [
        np.repeat(np.arange(6)[part], times) for part, times in ((slice(3), 12), (slice(2, 5), 9), ([5], 1))
    ]

    def parts():
        return (summary(model, embeddings[part], norms[part]) for part in rows)

    a, b, c = parts()
    left = a.merge(b).merge(c).descriptor()
    a, b, c = parts()
    right = a.merge(b.merge(c)).descriptor()
    every = np.concatenate(rows)
    np.testing.assert_allclose(left[0], batch(model, embeddings[every], norms[every])[0], atol=1e-5)
    np.testing.assert_allclose(left[0], right[0], atol=1e-6)
    np.testing.assert_allclose(left[1], right[1], rtol=1e-5)


def test_merged_parts_are_as_good_as_one_stream(model):
    """With more clips of nearly equal frames than representatives."""
    clips, norms = make_set(9, 40, dim=DIM)
    rows = np.repeat(np.arange(40), 30)
    noise = np.random.default_rng(0).standard_normal((len(rows), DIM)).astype(np.float32)
    embeddings = clips[rows] + 0.01 * noise
    embeddings, norms = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), norms[rows]
    expected = batch(model, embeddings, norms)[0]

    def parts():
        return (
            summary(model, embeddings[part], norms[part]) for part in np.split(np.arange(1200), [330, 800])
        )

    a, b, c = parts()
    left = a.merge(b).merge(c)
    a, b, c = parts()
    right = a.merge(b.merge(c))
    for stream in (summary(model, embeddings, norms), left, right):
        assert stream.faces == stream._k_center.counts.sum() == 1200
        assert stream.descriptor()[0] @ expected > 0.99
    np.testing.assert_array_equal(np.sort(left._sample.keys), np.sort(right._sample.keys))


def test_a_long_clip_does_not_crowd_out_the_faces_a_late_pick_needs():
    """The final first pick arrives last.

    The final second pick arrives before a thousand frames that are farther from the first pick of that time.
    """
    rng = np.random.default_rng(1)
    axis = np.eye(32, dtype=np.float32)
    rest = axis[2:12] + np.linspace(0.1, 0.5, 10, dtype=np.float32)[:, None] * axis[1]
    far = -axis[:1] + 0.5 * axis[1]
    clip = -0.5 * axis[0] - 0.8 * axis[1] + 0.001 * rng.standard_normal((1000, 32)).astype(np.float32)
    last = axis[:1]
    faces = np.concatenate([rest, far, clip, rest, last])
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    norms = np.concatenate([np.linspace(2, 3, 10), [1], np.ones(1000), np.linspace(2, 3, 10), [9]])
    norms = norms.astype(np.float32)
    picks = RunningPicks(2, 8, 0.0, 32)
    nothing = np.zeros((0, 32), np.float32), np.zeros(0, np.float32)
    for row in range(0, len(norms), 16):
        picks.add(faces[row : row + 16], norms[row : row + 16], nothing)
    sample = jax.jit(functools.partial(fpsset.farthest_point_sampling, size=2, gamma=0.0))
    wanted = np.asarray(sample(faces, norms, np.ones(len(norms), bool)))
    np.testing.assert_array_equal(picks.faces, faces[wanted])


def test_a_sample_is_uniform_and_does_not_depend_on_the_order_of_merges():
    rng = np.random.default_rng(0)
    faces, keys = rng.standard_normal((600, 4)).astype(np.float32), rng.random(600)
    samples = [UniformSample(50, 4) for _ in range(2)]
    for sample, order in zip(samples, (np.arange(600), rng.permutation(600)), strict=True):
        for rows in np.split(order, [20, 70, 71, 300]):
            sample.add(faces[rows], np.ones(len(rows)), keys[rows])
        np.testing.assert_array_equal(np.sort(sample.keys), np.sort(keys)[:50])
        np.testing.assert_array_equal(sample.faces[np.argsort(sample.keys)], faces[np.argsort(keys)[:50]])


@pytest.mark.parametrize("shape", [(1, 1, 6), (3, 70, 6), (70, 9, 512), (65, 8, 5000)])
def test_cosines_are_products(shape):
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((count, shape[2])).astype(np.float32) for count in shape[:2])
    np.testing.assert_allclose(cosines_on_host(left, right), left @ right.T, rtol=1e-4, atol=1e-3)


def test_save_and_load(model, tmp_path):
    stream = fpsset.StreamingAggregator(model, size=8).update(*make_set(6, 30, dim=DIM))
    stream.save(tmp_path / "stream.npz")
    again = fpsset.StreamingAggregator.load(tmp_path / "stream.npz", model)
    for summary in (stream, again):
        summary.update(*make_set(7, 30, dim=DIM))
    np.testing.assert_array_equal(again.descriptor()[0], stream.descriptor()[0])
    with pytest.raises(fpsset.InputError, match="made with the model"):
        fpsset.StreamingAggregator.load(tmp_path / "stream.npz", make_model(1))
    with pytest.raises(fpsset.InputError, match="cannot be merged"):
        stream.merge(fpsset.StreamingAggregator(make_model(1), size=8))
