"""Pooling protocols against their formulas."""

import itertools

import numpy as np
import pytest

from fpsset.errors import InputError
from fpsset.evaluation import pooling_protocols
from fpsset.evaluation.pooling_protocols import PROTOCOLS, SWITCHES, pool_by, switches_of
from fpsset.face_set import group_rows
from fpsset.inference.descriptors import describe

DIM = 8


@pytest.fixture(scope="module")
def faces():
    """One template of two videos and a still, another of one still."""
    rng = np.random.default_rng(0)
    features, flipped = rng.standard_normal((2, 7, DIM)).astype(np.float32)
    norms = np.linalg.norm(features, axis=1)
    media = np.array([5, 5, 5, 9, 9, 2, 7])
    _, sets = group_rows(features / norms[:, None], norms, np.array([0] * 6 + [1]), media)
    return features, flipped, rng.uniform(0.5, 1, 7).astype(np.float32), sets


def by_hand(features, flipped, score, rows, media, on):
    """In the order of InsightFace's code: mirror, norm, detector score, media."""
    features = features + flipped if "flip" in on else features
    if "norm" not in on:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    features = (features * score[:, None] if "score" in on else features)[rows]
    if "media" in on:
        features = np.stack([features[media[rows] == m].mean(0) for m in np.unique(media[rows])])
    total = features.sum(0)
    return total / np.linalg.norm(total)


@pytest.mark.parametrize("count", range(1, 5))
def test_every_combination(faces, count):
    features, flipped, score, sets = faces
    for on in itertools.combinations(SWITCHES, count):
        name = "+".join(on)
        model, weighted = pool_by(name, sets, score, flipped, "test")
        vectors = describe({name: model}, {}, weighted)[name].vectors
        for template, rows in enumerate((np.arange(6), np.array([6]))):
            wanted = by_hand(features, flipped, score, rows, sets.media, on)
            np.testing.assert_allclose(vectors[template], wanted, atol=1e-5, err_msg=name)


def test_faces_are_mirrored_in_any_block(faces, monkeypatch):
    features, flipped, _, sets = faces
    _, whole = pool_by("flip+norm", sets, None, flipped, "test")
    monkeypatch.setattr(pooling_protocols, "_ROWS_AT_ONCE", 3)
    _, parts = pool_by("flip+norm", sets, None, flipped, "test")
    np.testing.assert_array_equal(parts.embeddings, whole.embeddings)
    np.testing.assert_allclose(parts.norms, np.linalg.norm(features + flipped, axis=1), rtol=1e-5)


def test_a_face_and_its_opposite_cancel(faces):
    sets = faces[3]._replace(embeddings=np.eye(7, DIM, dtype=np.float32), norms=np.ones(7, np.float32))
    _, found = pool_by("flip", sets, None, -sets.embeddings, "test")
    assert not found.embeddings.any()


def test_names():
    assert switches_of("insightface") == set(SWITCHES) and switches_of("facecoresetnet") == {"norm"}
    for name in PROTOCOLS:
        assert switches_of(name) == switches_of(PROTOCOLS[name])
    with pytest.raises(
        InputError, match=r"config.evaluation.pooling is 'norms'; it must be 'facecoresetnet'"
    ):
        switches_of("norms")


@pytest.mark.parametrize(
    ("pooling", "problem"), [("flip", "'flipped'; extract it"), ("score", "'score'; for IJB")]
)
def test_missing_columns(faces, pooling, problem):
    with pytest.raises(InputError, match=problem):
        pool_by(pooling, faces[3], None, None, "F.npz")
