"""Strangers are told from a person's own faces, copies do not outvote them, and nobody loses every face."""

import numpy as np
import pytest

from fpsset.data.synthetic import make_synthetic
from fpsset.errors import InputError
from fpsset.face_set import RaggedSets
from fpsset.people.consensus import consensus_cosines, fit_odds, strangers_among

DIM = 64


def near(rng, person: np.ndarray, count: int, noise: float = 1.0) -> np.ndarray:
    faces = person + noise * rng.standard_normal((count, DIM)) / DIM**0.5
    return (faces / np.linalg.norm(faces, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def odds():
    rng = np.random.default_rng(0)
    people = near(rng, np.zeros(DIM), 200)
    table = make_synthetic(2, 0, DIM)[0]
    faces = np.concatenate([near(rng, person, 10) for person in people])
    count = len(faces)
    numbers = np.arange(count)
    return fit_odds(
        table.__class__(faces, np.ones(count, np.float32), numbers // 10, numbers, name="labelled")
    )


def judged(odds, faces, media=None) -> list[int]:
    count = len(faces)
    media = np.arange(count) if media is None else media
    norms, rows = np.ones(count, np.float32), np.arange(count)
    found = strangers_among(RaggedSets(faces, norms, media, rows, np.array([0, count])), odds)
    return np.flatnonzero(found).tolist()


@pytest.fixture
def two():
    """12 faces of a person, and a stranger."""
    rng = np.random.default_rng(1)
    person, stranger = near(rng, np.zeros(DIM), 2)
    return rng, near(rng, person, 12), stranger


def test_the_odds_rise_with_the_cosine(odds):
    assert odds.shape == (24,) and (np.diff(odds) >= 0).all() and odds[0] < -1 and odds[-1] > 1


def test_strangers_are_found(odds, two):
    rng, own, _ = two
    strangers = near(rng, np.zeros(DIM), 8)
    assert judged(odds, own) == []
    assert judged(odds, np.concatenate([own, strangers])) == list(range(12, 20))


@pytest.mark.parametrize("copies", [1, 10, 200])
def test_copies_of_a_stranger_count_once(odds, two, copies):
    rng, own, stranger = two
    faces = np.concatenate([own, near(rng, stranger, copies, 0.1)])
    found = judged(odds, faces)
    assert set(range(12, 12 + copies)) <= set(found) and len(found) <= copies + 1


def test_one_strangers_many_faces_take_over_from_half_on(odds, two):
    rng, own, stranger = two
    assert judged(odds, np.concatenate([own, near(rng, stranger, 8)])) == list(range(12, 20))
    assert judged(odds, np.concatenate([own, near(rng, stranger, 18)])) == list(range(12))


def test_a_strangers_video_weighs_less_than_as_many_photos(odds, two):
    rng, own, stranger = two
    faces = np.concatenate([own, near(rng, stranger, 18)])
    media = np.append(np.arange(12), np.full(18, 99))
    assert judged(odds, faces, media) == list(range(12, 30))


def test_nothing_is_said_of_two_votes(two):
    _, own, stranger = two
    few = np.stack([own[0], stranger.astype(np.float32)])
    assert consensus_cosines(few, np.ones(2), np.arange(2)) is None
    crowd = np.concatenate([few, few])
    assert consensus_cosines(crowd, np.ones(4), np.arange(4)) is None


def test_somebody_always_stays(odds):
    faces = np.eye(DIM, dtype=np.float32)[:3]
    assert len(judged(odds, faces)) < 3


def test_too_few_labelled_faces():
    with pytest.raises(InputError, match="too few to tell strangers by; give 1000"):
        fit_odds(make_synthetic(3, 0, DIM)[0])
