"""Streams, blocks and explanations of the models fitted in closed form."""

import numpy as np
import pytest

import fpsset
from fpsset.data.synthetic import make_synthetic
from fpsset.inference import out_of_core
from tests.sets import make_set

DIM = 16


@pytest.fixture(scope="module", params=["posterior", "whitened", "posterior, norms ignored"])
def model(request):
    table = make_synthetic(40, 0, DIM)[0]
    name, _, ignored = request.param.partition(", ")
    if ignored:
        table.norms[:] = np.random.default_rng(0).permutation(table.norms)
    return fpsset.fit(table, name)


@pytest.fixture(scope="module")
def faces():
    """60 faces: 12 distinct ones, and five near copies of each."""
    embeddings, norms = make_set(3, 12, dim=DIM)
    rows = np.arange(60) % 12
    copies = embeddings[rows] + 0.02 * np.random.default_rng(0).standard_normal((60, DIM))
    return copies.astype(np.float32), norms[rows] + np.linspace(0, 0.1, 60, dtype=np.float32)


def test_a_stream_is_the_set_without_media(model, faces):
    """Every distinct face fits; frames that repeat are counted."""
    rows = np.repeat(np.arange(20), 1 + np.arange(20) % 4)
    stream = fpsset.StreamingAggregator(model, size=32)
    for part in np.array_split(rows, 5):
        stream.update(faces[0][part], faces[1][part])
    vector, norm = stream.descriptor()
    expected = model.aggregate(faces[0][rows], faces[1][rows])
    np.testing.assert_allclose(vector, expected.descriptors[0], atol=1e-5)
    np.testing.assert_allclose(norm, expected.norms[0], rtol=1e-4)


def test_a_stream_that_does_not_fit_is_close(model, faces):
    """Exact for the whitened mean, whose sums need no picks."""
    rows = np.random.default_rng(0).permutation(60)
    embeddings, norms = faces[0][rows], faces[1][rows]
    halves = [fpsset.StreamingAggregator(model, size=16) for _ in range(2)]
    for half, part in zip(halves, np.array_split(np.arange(60), 2), strict=True):
        half.update(embeddings[part], norms[part])
    vector, norm = halves[0].merge(halves[1]).descriptor()
    expected = model.aggregate(embeddings, norms)
    if model.module.picks_ask:
        assert vector @ expected.descriptors[0] > 0.97
    else:
        np.testing.assert_allclose(vector, expected.descriptors[0], atol=1e-5)
        np.testing.assert_allclose(norm, expected.norms[0], rtol=1e-4)


def test_only_the_posterior_needs_its_picks_first(model):
    assert model.module.picks_ask == (model.card.model == "posterior")


def test_blocks_are_the_set_without_media(model, faces, monkeypatch):
    monkeypatch.setattr(out_of_core, "_ROWS", 16)
    blocks = [(faces[0][part], faces[1][part]) for part in np.split(np.arange(60), (7, 7, 40))]
    found, expected = model.aggregate_blocks(blocks), model.aggregate(*faces)
    np.testing.assert_array_equal(found.coreset, expected.coreset[0])
    np.testing.assert_allclose(found.descriptor, expected.descriptors[0], atol=1e-5)
    np.testing.assert_allclose(found.norm, expected.norms[0], rtol=1e-4)
    with pytest.raises(fpsset.InputError, match="row 2 of 'norms' is negative"):
        model.aggregate_blocks([(faces[0], np.where(np.arange(60) == 2, -1, faces[1]))])


@pytest.mark.parametrize("known", [True, False])
def test_explanations(model, faces, known):
    media = np.arange(60) % 12 if known else None
    why, found = model.explain(*faces, media=media), model.aggregate(*faces, media=media)
    np.testing.assert_allclose(why.descriptor, found.descriptors[0], atol=1e-6)
    np.testing.assert_array_equal(why.picks, found.coreset[0])
    assert why.attention.shape == (60,) and (why.attention >= 0).all()
    np.testing.assert_allclose(why.attention_by_pick.sum(axis=1), 1, rtol=1e-5)
    rest = np.delete(np.arange(60), 5)
    without = model.aggregate(*(x[rest] for x in faces), media=None if media is None else media[rest])
    assert why.change[5] == pytest.approx(1 - without.descriptors[0] @ found.descriptors[0], abs=1e-5)
