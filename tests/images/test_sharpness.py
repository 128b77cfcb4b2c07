"""Sharpness falls by blur, not by light, contrast or colour."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fpsset.images.sharpness import sharpness
from fpsset.inference.verdicts import VERDICT_RULES


@pytest.fixture(scope="module")
def stills(shared):
    return [Image.open(path).convert("RGB") for path in sorted((shared / "faces").glob("*/still_*.png"))]


def test_blurred_stills_are_told_from_others(stills):
    plain = np.array([sharpness(np.asarray(image)) for image in stills])
    blurred = [image.filter(ImageFilter.GaussianBlur(2)) for image in stills]
    less = np.array([sharpness(np.asarray(image)) for image in blurred])
    assert (plain > VERDICT_RULES.blurred).all() and (less < plain).all()
    assert (less < VERDICT_RULES.blurred).mean() > 0.95


def test_light_does_not_matter():
    image = np.random.default_rng(0).integers(0, 120, (112, 112, 3), dtype=np.uint8)
    assert sharpness(2 * image + 10) == pytest.approx(sharpness(image), rel=1e-5)
    assert sharpness(np.full((112, 112, 3), 7, np.uint8)) == 0
