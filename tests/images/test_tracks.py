"""Tracks are of one person each, through gaps, crossings and cuts."""

import numpy as np

from fpsset.images.found_faces import FoundFaces
from fpsset.images.tracks import same_people, track_faces

DIM, RATE = 32, 5.0


def faces(rows) -> FoundFaces:
    """Faces of (seconds, person, left): 40 pixels wide, with embeddings near the person's own."""
    time, person, left = (np.array(values) for values in zip(*rows, strict=True))
    rng = np.random.default_rng(0)
    own = np.eye(DIM)[person] + 0.1 * rng.standard_normal((len(person), DIM)) / np.sqrt(DIM)
    boxes = np.stack([left, np.full(len(left), 50.0), np.full(len(left), 40.0), np.full(len(left), 50.0)], 1)
    count = len(person)
    return FoundFaces(
        item=np.zeros(count, np.int64),
        time=time.astype(float),
        boxes=boxes.astype(np.float32),
        landmarks=np.zeros((count, 5, 2), np.float32),
        scores=np.full(count, 0.9, np.float32),
        inside=np.ones(count, np.float32),
        embeddings=(own / np.linalg.norm(own, axis=1, keepdims=True)).astype(np.float16),
        norms=np.ones(count, np.float32),
        crops=[b""] * count,
    )


def tracked(rows, cuts=(), frames=None):
    found = faces(rows)
    times = np.arange(frames or 20) / RATE
    scenes = np.isin(np.arange(len(times)), cuts)
    return found, track_faces(found, times, scenes, RATE)


def test_a_face_is_one_track_through_a_gap():
    rows = [(i / RATE, 0, 10.0 + 3 * i) for i in range(20) if i not in (8, 9)]
    assert (tracked(rows)[1] == 0).all()


def test_a_cut_ends_tracks_and_looks_join_people():
    """After the cut the two have changed places, so their boxes say that each is the other."""
    rows = [(i / RATE, (k if i < 10 else 1 - k), 10.0 + 200 * k) for i in range(20) for k in range(2)]
    found, tracks = tracked(rows, cuts=[10])
    person = found.embeddings.argmax(1)
    assert len(set(tracks.tolist())) == 4
    assert all(len(set(person[tracks == t].tolist())) == 1 for t in range(4))
    assert same_people(found, tracks).tolist() == [0, 1, 1, 0]


def test_people_who_cross_are_not_confused():
    """One is hidden while the other passes; and even if nobody told the cut, looks do."""
    rows = [(i / RATE, 0, 10.0 + 10 * i) for i in range(20)]
    rows += [(i / RATE, 1, 210.0 - 10 * i) for i in range(20) if i not in (9, 10, 11)]
    found, tracks = tracked(sorted(rows))
    person = found.embeddings.argmax(1)
    assert all(len(set(person[tracks == t].tolist())) == 1 for t in range(tracks.max() + 1))
    assert len(set(same_people(found, tracks).tolist())) == 2
    swapped = [(i / RATE, (k if i < 10 else 1 - k), 10.0 + 200 * k) for i in range(20) for k in range(2)]
    found, tracks = tracked(swapped)
    person = found.embeddings.argmax(1)
    assert all(len(set(person[tracks == t].tolist())) == 1 for t in range(tracks.max() + 1))


def test_two_who_look_alike_at_one_time_are_two_people():
    rows = [(i / RATE, 0, 10.0 + 200 * k) for i in range(6) for k in range(2)]
    found, tracks = tracked(rows, frames=6)
    assert sorted(same_people(found, tracks).tolist()) == [0, 1]


def test_no_faces_and_one():
    found, tracks = tracked([(0.4, 0, 10.0)])
    assert tracks.tolist() == [0] and same_people(found, tracks).tolist() == [0]
