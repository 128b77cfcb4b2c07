"""Padding, grouping, batching and packing of sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fpsset
from fpsset.face_set import group_media, group_rows
from fpsset.inference.batching import batches, bucket_size
from tests.sets import make_set, seeds


def test_pad_sets():
    first, second = make_set(0, 2), make_set(1, 5)
    sets = fpsset.pad_sets([first[0], second[0]], [first[1], second[1]], size=6)
    assert sets.embeddings.shape == (2, 6, 16) and sets.embeddings.dtype == np.float32
    assert sets.mask.sum(1).tolist() == [2, 5]
    np.testing.assert_array_equal(sets.embeddings[0, :2], first[0])
    np.testing.assert_array_equal(sets.norms[1, :5], second[1])
    assert sets.media_size is None
    assert fpsset.pad_sets([first[0], second[0]], [first[1], second[1]]).mask.shape == (2, 5)


def test_frames_of_a_medium_are_counted_in_each_set():
    (first, norms), (second, more) = make_set(0, 3), make_set(1, 2)
    sets = fpsset.pad_sets([first, second], [norms, more], media_list=[[70, 7, 70], [9, 8]])
    assert sets.media_size.tolist() == [[2, 1, 2], [1, 1, 1]]
    assert sets.media_size.dtype == np.float32
    assert sets.media.tolist() == [[0, 1, 0], [0, 1, 2]] and sets.media.dtype == np.int32


@given(seed=seeds)
def test_media_are_grouped(seed):
    rng = np.random.default_rng(seed)
    media, mask = rng.integers(0, 5, (5, 9)).astype(np.uint64) + 2**60, rng.random((5, 9)) < 0.7
    mask[0] = False
    counted, first = np.ones(mask.shape), np.tile(np.arange(9), (5, 1))
    for row, slot in np.argwhere(mask):
        alike = np.flatnonzero(mask[row] & (media[row] == media[row, slot]))
        counted[row, slot], first[row, slot] = len(alike), alike[0]
    codes, sizes = group_media(media, mask)
    np.testing.assert_array_equal(sizes, counted)
    np.testing.assert_array_equal(codes, first)


@pytest.mark.parametrize(
    ("embeddings", "norms", "size", "message"),
    [
        ([], [], None, "at least one"),
        ([np.ones((0, 4))], [np.ones(0)], None, "at least one face"),
        ([np.ones((2, 4)), np.ones((2, 5))], [np.ones(2), np.ones(2)], None, "one width"),
        ([np.ones((2, 4))], [np.ones(3)], None, "norms"),
        ([np.ones((3, 4))], [np.ones(3)], 2, "more than size"),
    ],
)
def test_pad_sets_rejects(embeddings, norms, size, message):
    with pytest.raises(ValueError, match=message):
        fpsset.pad_sets(embeddings, norms, size)


def test_missing_norms_are_said_to_be_missing():
    faces, mask = np.eye(4, dtype="f"), np.ones(4, bool)
    for call in (
        lambda: fpsset.pad_sets([faces], None),
        lambda: fpsset.pad_sets([faces], [None]),
        lambda: fpsset.farthest_point_sampling(faces, None, mask),
        lambda: fpsset.FaceSet(faces, None, mask).checked(),
    ):
        with pytest.raises(ValueError, match="missing; pass an array"):
            call()


def test_lists_are_arrays():
    picks = fpsset.farthest_point_sampling([[1.0, 0.0], [0.0, 1.0]], [2.0, 1.0], [True, True], size=2)
    assert picks.tolist() == [0, 1]


def test_bucket_sizes():
    assert [bucket_size(n) for n in (1, 8, 9, 16, 17, 1000)] == [8, 8, 16, 16, 32, 1024]
    assert [bucket_size(n, 4) for n in (1, 8, 9, 32, 33, 128, 129, 1000)] == [
        8,
        8,
        32,
        32,
        128,
        128,
        512,
        2048,
    ]


@given(seeds, st.lists(st.integers(1, 60), min_size=1, max_size=40), st.booleans())
def test_every_set_comes_once_and_whole(seed, counts, packed):
    ids = np.repeat(np.arange(len(counts)) * 3 + 5, counts)
    ids = np.random.default_rng(seed).permutation(ids)
    embeddings, norms = make_set(seed, len(ids), dim=4)
    unique, sets = group_rows(embeddings, norms, ids)
    assert unique.tolist() == sorted(set(ids.tolist()))
    seen, shapes = {}, {}
    for which, count, size in batches(sets.sizes(), 64, packed):
        batch = sets.pad(which, count, size)
        kind = (batch.mask.ndim, size)
        assert shapes.setdefault(kind, batch.mask.shape) == batch.mask.shape
        assert not batch.mask[len(which) :].any()
        norms_of = np.broadcast_to(batch.norms, batch.mask.shape)
        for place in np.argwhere(which >= 0):
            assert which[*place] not in seen
            seen[which[*place]] = norms_of[*place][batch.mask[*place]]
    for index, got in seen.items():
        np.testing.assert_array_equal(got, norms[ids == unique[index]])
    assert len(seen) == len(counts)


def test_packs_are_full():
    """A thousand small sets share rows of slots; larger sets have their own rows."""
    sizes = np.random.default_rng(0).integers(1, 25, 1000)
    packs = [batch for batch in batches(sizes, packed=True) if batch.which.ndim == 2]
    assert len({(batch.count, batch.size, batch.which.shape[1]) for batch in packs}) == 1
    rows = np.concatenate([batch.which for batch in packs])
    held = np.where(rows >= 0, sizes[rows], 0).sum(1)
    assert sorted(rows[rows >= 0].tolist()) == np.flatnonzero(sizes <= 16).tolist()
    assert held.max() <= packs[0].size and held.mean() > 0.8 * packs[0].size
