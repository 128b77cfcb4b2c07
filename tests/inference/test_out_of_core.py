"""A set that is read block by block has the descriptor of the same set in memory."""

import numpy as np
import pytest

import fpsset
from fpsset.inference import out_of_core as rooms
from tests.sets import DESCRIBED, make_set

DIM = 16


def cut(embeddings, norms, *places):
    return list(zip(np.split(embeddings, places), np.split(norms, places), strict=True))


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_blocks_of_any_sizes_are_the_set(aggregator, size, monkeypatch):
    monkeypatch.setattr(rooms, "_ROWS", 8)
    embeddings, norms = make_set(size, size, dim=DIM)
    wanted = aggregator.aggregate(5 * embeddings, norms)
    for places in ((), (1,), (0, size // 2, size // 2)):
        found = aggregator.aggregate_blocks(cut(5 * embeddings, norms, *places))
        np.testing.assert_array_equal(found.coreset, wanted.coreset[0])
        np.testing.assert_allclose(found.descriptor, wanted.descriptors[0], atol=1e-5)
        np.testing.assert_allclose(found.norm, wanted.norms[0], rtol=1e-5)


@pytest.mark.parametrize("kind", DESCRIBED)
def test_ties_are_broken_as_in_memory_whatever_the_order(aggregator, kind, monkeypatch):
    monkeypatch.setattr(rooms, "_ROWS", 8)
    embeddings, norms = make_set(3, 30, kind, DIM)
    wanted = aggregator.aggregate(embeddings, norms)
    order = np.random.default_rng(0).permutation(30)
    for rows in (np.arange(30), order):
        found = aggregator.aggregate_blocks(cut(embeddings[rows], norms[rows], 4, 20))
        for column in embeddings, norms:
            np.testing.assert_array_equal(column[rows][found.coreset], column[wanted.coreset[0]])
        np.testing.assert_allclose(found.descriptor, wanted.descriptors[0], atol=1e-5)


def test_a_file_that_is_mapped_and_two_compilations(aggregator, tmp_path):
    embeddings, norms = make_set(1, 300, dim=DIM)
    np.save(tmp_path / "faces.npy", embeddings)
    faces = np.load(tmp_path / "faces.npy", mmap_mode="r")
    parts = [slice(start, start + 64) for start in range(0, 300, 64)]
    reads = []

    def blocks():
        reads.append(1)
        return ((faces[part], norms[part]) for part in parts)

    found = aggregator.aggregate_blocks(blocks)
    assert len(reads) == 4  # norms, two picks, attention
    expected = aggregator.aggregate(embeddings, norms).descriptors[0]
    np.testing.assert_allclose(found.descriptor, expected, atol=1e-5)

    def compiled():
        steps = rooms._jitted(aggregator.module)
        return [step._cache_size() for step in (rooms._farthest, steps.look, steps.conclude)]

    before = compiled()
    aggregator.aggregate_blocks(cut(embeddings, norms, 100, 130))
    assert compiled() == before


def test_what_cannot_be_read_again(aggregator):
    embeddings, norms = make_set(2, 20, dim=DIM)
    shrinking = iter([cut(embeddings, norms, 10), cut(embeddings[:10], norms[:10])])
    for blocks, problem in (
        (iter(cut(embeddings, norms)), "can be read once"),
        ([], "hold no face"),
        (cut(embeddings[:, :8], norms), "8 wide; the model takes 16"),
        (cut(np.where(np.arange(20)[:, None] == 5, np.nan, embeddings), norms), "row 5 of 'embeddings'"),
        (lambda: next(shrinking), "must not change"),
    ):
        with pytest.raises(fpsset.InputError, match=problem):
            aggregator.aggregate_blocks(blocks)
