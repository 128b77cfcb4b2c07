"""The default model on real faces: at least the figures that are claimed for it."""

import numpy as np
import pytest

import fpsset
from fpsset.data.files import read_features
from fpsset.evaluation.protocols import make_protocol
from fpsset.evaluation.scoring import pair_scores
from fpsset.evaluation.verification import operating_points
from fpsset.inference.descriptors import describe_one

FARS = (1e-3, 1e-4)


@pytest.fixture(scope="module")
def models(shared):
    train = read_features(shared / "data/faces_train.npz")
    return {name: fpsset.fit(train, name) for name in ("posterior", "whitened")}


def tars(model, path) -> np.ndarray:
    protocol = make_protocol(read_features(path))
    found = describe_one(model.module, model.variables, model.scaled(protocol.sets))
    scores = pair_scores(found.vectors, protocol.pairs)
    return np.array([point.tar for point in operating_points(scores, protocol.pairs.same, FARS)])


@pytest.mark.parametrize(
    ("name", "least", "beats_the_rival"),
    [
        ("faces_dev_clips_hard", (0.735, 0.60), True),
        ("faces_dev_clips", (0.86, 0.765), False),
        ("faces_dev_mixed", (0.971, 0.971), False),
    ],
)
def test_the_default_model_verifies_real_faces(models, shared, name, least, beats_the_rival):
    path = shared / f"data/{name}.npz"
    ours = tars(models["posterior"], path)
    assert (ours >= least).all(), ours
    if beats_the_rival:
        rival = tars(models["whitened"], path)
        assert (ours > rival).all(), (ours, rival)
