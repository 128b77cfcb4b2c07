"""The colour-order check detects a wrong order and accepts a right one."""

import numpy as np

from fpsset.data.feature_table import UNKNOWN_SUBJECT
from fpsset.images.color_order import examine, sample_rows
from fpsset.images.recognisers import Recogniser
from fpsset.weights.cards import BackboneCard


def color_recogniser(order: str) -> Recogniser:
    """A recogniser that embeds only its first channel."""

    def run(images):
        vectors = images[:, ::16, ::16, 0].reshape(len(images), -1)
        vectors = vectors - vectors.mean(1, keepdims=True)
        norms = np.linalg.norm(vectors, axis=1)
        return vectors / norms[:, None], norms

    return Recogniser(BackboneCard("test", order, 127.5, 127.5, ""), run)


def test_a_wrong_colour_order_is_detected():
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(8), 6)
    faces = rng.integers(0, 256, (48, 112, 112, 3), dtype=np.uint8)
    looks = rng.integers(0, 128, (8, 112, 112), dtype=np.uint8)
    faces[..., 0] = faces[..., 0] // 2 + looks[subject]  # people differ in red
    rows = sample_rows(subject)
    assert len(rows) == 48
    good, bad = (examine(color_recogniser(order), faces, subject) for order in ("rgb", "bgr"))
    assert not good.looks_wrong and bad.looks_wrong
    assert good.stated == bad.swapped > 1 > abs(good.swapped)
    grey = np.repeat(faces[..., :1], 3, -1)
    assert not examine(color_recogniser("rgb"), grey, subject).looks_wrong
    assert len(sample_rows(np.array([0, 1, 2]))) == len(sample_rows(np.array([UNKNOWN_SUBJECT] * 9))) == 0
    many = sample_rows(np.repeat(np.arange(100), 20))
    assert len(many) == 32 * 8 and len(set((many // 20).tolist())) == 32
