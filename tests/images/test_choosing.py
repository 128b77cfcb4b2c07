"""The person whom most photos show is chosen in each, whatever the order of faces and photos."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpsset.images.choosing import Candidates, choose_person

DIM = 64


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def album(rng, photos: int, strangers: int):
    """(candidates, which are the person's): the person in every photo, with `strangers` others, all apart."""
    person = unit(rng.standard_normal(DIM))
    vectors, place, right = [], [], []
    for photo in range(photos):
        own = unit(person + 0.6 * unit(rng.standard_normal(DIM)))
        faces = [own, *unit(rng.standard_normal((strangers, DIM)))]
        order = rng.permutation(len(faces))
        vectors += [faces[i] for i in order]
        right += [i == 0 for i in order]
        place += [photo] * len(faces)
    count = len(place)
    area = rng.uniform(100, 1000, count).astype(np.float32)
    ones = np.ones(count, np.float32)
    found = Candidates(
        np.array(vectors), ones, np.array(place), np.full(count, not strangers), np.ones(count, int), area, []
    )
    return found, np.array(right)


@given(st.integers(0, 10_000), st.integers(3, 12), st.integers(0, 4))
def test_the_person_of_an_album(seed, photos, strangers):
    found, right = album(np.random.default_rng(seed), photos, strangers)
    np.testing.assert_array_equal(choose_person(found), right)
    order = np.random.default_rng(seed).permutation(len(right))
    fields = [values[order] for values in found[:-1]]
    np.testing.assert_array_equal(choose_person(Candidates(*fields, [])), right[order])


def test_a_photo_without_the_person():
    """Nobody is taken from a photo of several strangers; a single face is, since the user says who it is."""
    rng = np.random.default_rng(0)
    found, right = album(rng, 5, 2)
    place = np.concatenate([found.place, [5, 5, 6]])
    more = unit(rng.standard_normal((3, DIM)))
    grown = [np.concatenate([values, values[:3]]) for values in found[:-1]]
    grown[0][-3:], grown[2], grown[3][-1] = more, place, True
    chosen = choose_person(Candidates(*grown, []))
    np.testing.assert_array_equal(chosen, [*right, False, False, True])


def test_one_photo_and_none():
    found, _ = album(np.random.default_rng(1), 1, 3)
    chosen = choose_person(found)
    assert chosen.sum() == 1 and chosen[found.area.argmax()]
    empty = Candidates(*(values[:0] for values in found[:-1]), [])
    assert choose_person(empty).shape == (0,)


@pytest.mark.parametrize("clash", [False, True])
def test_tracks_at_one_time_are_not_both_the_person(clash):
    rng = np.random.default_rng(2)
    person = unit(rng.standard_normal(DIM))
    vectors = np.stack(
        [person, unit(person + 0.3 * unit(rng.standard_normal(DIM))), unit(rng.standard_normal(DIM))]
    )
    ones = np.ones(3, np.float32)
    found = Candidates(
        vectors, ones, np.arange(3), np.zeros(3, bool), np.array([9, 5, 4]), ones, [(0, 1)] if clash else []
    )
    assert choose_person(found).tolist() == [True, not clash, False]
