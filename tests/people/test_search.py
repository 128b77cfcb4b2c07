"""Search finds what a plain product and sort find, on any number of devices, in few programs."""

import itertools

import jax
import numpy as np
import pytest

from fpsset.people.gallery import Gallery, read_gallery
from fpsset.people.search import SHARPNESS, ExactSearch, scores_of
from fpsset.people.store import open_store
from tests.people.edited import enrolled, make_table

DIM = 16


def unit(rng, *shape) -> np.ndarray:
    vectors = rng.standard_normal((*shape, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def make_gallery(people: int, most: int, seed: int = 0) -> Gallery:
    rng = np.random.default_rng(seed)
    starts = np.concatenate([[0], np.cumsum(rng.integers(1, most + 1, people))])
    names = np.array([f"{number:05}" for number in range(people)])
    return Gallery(names, starts, unit(rng, starts[-1]).astype(np.float16))


def by_hand(queries: np.ndarray, gallery: Gallery) -> np.ndarray:
    """[Q, P] scores in float64."""
    vectors = gallery.vectors.astype(np.float64)
    cosines = queries @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T
    parts = [cosines[:, first:last] for first, last in itertools.pairwise(gallery.starts)]
    return np.stack([np.log(np.exp(SHARPNESS * part).mean(1)) / SHARPNESS for part in parts], 1)


@pytest.mark.parametrize("devices", [1, 3])
@pytest.mark.parametrize("people, most", [(1, 1), (5, 1), (700, 1), (300, 4)])
def test_the_best_people(people, most, devices):
    gallery, queries = make_gallery(people, most), unit(np.random.default_rng(1), 9)
    found = ExactSearch(gallery, jax.devices()[:devices])(queries, 6)
    expected = by_hand(queries, gallery)
    best = np.argsort(-expected, axis=1)[:, :6]
    np.testing.assert_array_equal(found.people, best)
    np.testing.assert_allclose(found.scores, np.take_along_axis(expected, best, 1), atol=1e-6)
    alone = scores_of(queries, gallery, found.people[:, 0])
    np.testing.assert_allclose(alone, found.scores[:, 0], atol=1e-6)
    blocks = [block for _, block in ExactSearch(gallery, jax.devices()[:devices]).every_score(queries)]
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-6)


def test_equal_scores_come_in_order_of_names():
    gallery = Gallery(
        np.array(list("abcdef")), np.arange(7), np.eye(DIM, dtype=np.float16)[[0, 1, 0, 0, 1, 0]]
    )
    found = ExactSearch(gallery, jax.devices()[:2])(np.eye(DIM, dtype=np.float32)[:1], 4)
    assert found.people.tolist() == [[0, 2, 3, 5]]


def test_what_is_padded_is_never_found():
    """Everybody else scores -1, and padding 0."""
    gallery = Gallery(np.array(["a", "b"]), np.array([0, 1, 3]), -np.eye(DIM, dtype=np.float16)[[0, 0, 0]])
    found = ExactSearch(gallery)(np.eye(DIM, dtype=np.float32)[:1], 5)
    assert found.people.tolist() == [[0, 1]]
    np.testing.assert_allclose(found.scores, -1, atol=1e-6)


def test_programs_are_few():
    from fpsset.people import search

    search._program.cache_clear()
    sizes = set()
    for people in range(1, 2000, 7):
        sizes.add(ExactSearch(make_gallery(people, 1), jax.devices()[:1])._each)
    assert len(sizes) <= 4 + 8 * 3
    wanted = ExactSearch(make_gallery(600, 1), jax.devices()[:1])
    for count in range(1, 60):
        wanted(unit(np.random.default_rng(count), count), 5)
    (program,) = {search._program(wanted._mesh, 8)}
    assert program._cache_size() == 3  # of 1, 8 and 64 queries


def test_a_store_is_a_gallery(tmp_path):
    table = make_table()
    enrolled(tmp_path / "one.fps", table)
    enrolled(tmp_path / "several.fps", table, prototypes=3)
    with open_store(tmp_path / "one.fps") as store:
        one = read_gallery(store)
    with open_store(tmp_path / "several.fps") as store:
        several = read_gallery(store)
    assert one.names.tolist() == several.names.tolist() == sorted(one.names)
    assert repr(one) == "Gallery(8 people, 8 vectors 16 wide)" and 8 < len(several.vectors) <= 24
    assert several.owners().tolist() == sorted(several.owners())
