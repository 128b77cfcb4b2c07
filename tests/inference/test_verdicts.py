"""Verdicts on faces: their kinds, in words that agree with the picks, and what to add."""

import numpy as np
import pytest

import fpsset
from fpsset.inference.advice import advise
from fpsset.inference.verdicts import Looks, turned_away

DIM = 32


def people(*near: float, norms=None):
    """Embeddings [N, D] with the given cosines to one direction, otherwise apart; and their norms."""
    vectors = np.zeros((len(near), DIM), np.float32)
    vectors[:, 0] = near
    vectors[np.arange(len(near)), np.arange(len(near)) + 1] = np.sqrt(1 - np.square(near))
    return vectors, np.full(len(near), 10.0) if norms is None else np.array(norms, float)


def advice(vectors, norms, media=None, size=1, **looks):
    model = fpsset.PlainAggregator(coreset_size=size)
    why = model.explain(vectors, norms, media=media)
    return advise(why, vectors, [f"{i}.jpg" for i in range(len(norms))], looks=Looks(**looks)), why


def kinds(found) -> list[str]:
    return [verdict.kind for verdict in found.verdicts]


def test_each_kind():
    vectors, norms = people(0.8, 0.8, 0.8, 0.8, 0.0, 0.8, norms=[10, 10, 9.9, 5, 9.8, 9.7])
    vectors[2] = vectors[1]
    found, _ = advice(vectors, norms, inside=np.array([1, 1, 1, 1, 1, 0.6]))
    assert kinds(found) == ["good", "good", "duplicate", "poor", "stranger", "cut off"]
    assert found.verdicts[2].why == "nearly the same picture as 1.jpg" and "median" in found.of_face(3)
    assert found.of_face(4) == "looks like someone else" and "60%" in found.of_face(5)
    assert any(line.startswith("3.jpg is poor (norm 5,") for line in found.lines)
    assert [one["kind"] for one in found.to_dict()["verdicts"]] == kinds(found)


def test_frames_of_a_video_are_no_duplicates_but_equal_pictures_are():
    vectors, norms = people(0.8, 0.8, 0.8)
    vectors[1] = vectors[0]
    assert kinds(advice(vectors, norms, media=[0, 0, 1])[0]) == ["good"] * 3
    assert kinds(advice(vectors, norms, media=[0, 1, 2])[0]) == ["good", "duplicate", "good"]
    sources = np.array([7, 7, 8])
    assert kinds(advice(vectors, norms, media=[0, 1, 2], sources=sources)[0]) == ["good"] * 3
    found, _ = advice(*people(0.8, 0.8, 0.8), media=[0, 0, 1], contents=[b"a", b"b", b"a"])
    assert kinds(found) == ["good", "good", "duplicate"] and "the same picture as 0.jpg" in found.of_face(2)


def test_the_faces_of_training_say_what_is_poor():
    vectors, norms = people(0.8, 0.8, 0.8)
    assert kinds(advice(vectors, norms, typical_norm=12.0)[0]) == ["good"] * 3
    found, _ = advice(vectors, norms, typical_norm=20.0)
    assert kinds(found) == ["poor"] * 3
    assert found.lines[-1] == "A sharp photo would help most: all of these are poor."
    turned, _ = advice(vectors, norms, typical_norm=20.0, turned=np.array([0.3, 0.4, 0.5]))
    assert turned.lines[-1] == "A sharp frontal photo would help most: all of these are poor and turned away."
    half, _ = advice(vectors, norms, turned=np.array([0.3, 0.4, 0.1]))
    assert not any("would help" in line for line in half.lines)
    one, _ = advice(vectors, norms, media=[4, 4, 4])
    assert one.lines[-1].startswith("A photo from another occasion would help most")


def test_a_face_that_was_enlarged_is_poor():
    found, _ = advice(*people(0.8, 0.8, 0.8), sides=np.array([39, 40, 200]))
    assert kinds(found) == ["poor", "good", "good"] and "39 pixels" in found.of_face(0)
    found, _ = advice(*people(0.8, 0.8, 0.8), sharpness=np.array([0.3, 0.41, 0.2]))
    assert kinds(found) == ["poor"] * 3 and found.of_face(0) == "poor: blurred"
    assert found.lines[-1] == "A sharp photo would help most: all of these are poor."


def test_a_poor_pick_is_not_shown_without_a_word():
    found, why = advice(*people(0.9, 0.9, 0.9, 0.35, norms=[10, 10, 10, 6]), size=2)
    assert why.picks.tolist() == [0, 3] and kinds(found)[3] == "poor"
    assert any(line.startswith("Pick 2, 3.jpg, is poor") for line in found.lines)


@pytest.mark.parametrize("seed", range(5))
def test_sentences_do_not_contradict_each_other(seed):
    rng = np.random.default_rng(seed)
    found, _ = advice(
        *people(*rng.uniform(0.3, 1, 8), norms=rng.uniform(5, 10, 8)), size=int(rng.integers(1, 4))
    )
    text = " ".join(found.lines)
    assert not ("covers the set" in text or "cover the set" in text) or "Every face adds" not in text
    said = [found.of_face(i) for i in range(8)]
    assert all(bool(words) or kind == "good" for words, kind in zip(said, kinds(found), strict=True))


def test_verdicts_do_not_depend_on_the_order():
    vectors, norms = people(0.8, 0.8, 0.8, 0.8, 0.0, 0.8, norms=[10, 10.1, 9.9, 5, 9.8, 9.7])
    vectors[2] = vectors[1]
    order = np.random.default_rng(0).permutation(6)
    straight, shuffled = (kinds(advice(vectors[o], norms[o])[0]) for o in (np.arange(6), order))
    assert [straight[i] for i in order] == shuffled


def test_turned_away():
    frontal = np.array([[-1, 0], [1, 0], [0, 1], [-0.7, 2], [0.7, 2]], float)
    side = frontal + np.array([[0, 0], [0, 0], [0.8, 0], [0, 0], [0, 0]])
    angle = np.deg2rad(40)
    turn = 7 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(turned_away(np.stack([frontal, side, side @ turn.T + 50])), [0, 0.4, 0.4])
