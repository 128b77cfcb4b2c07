"""Augmentation by the published recipe: once an image, blue first, in order, with Equalize as of Pillow."""

import math

import jax
import numpy as np
import pytest
from PIL import Image, ImageOps

from fpsset.images import augmentation, image_ops
from fpsset.images.augmentation import ORDERED_OPERATIONS, FrameVariation, Style, augment, style_of
from fpsset.images.image_pipeline import image_batches
from tests.image_source import make_source
from tests.images.images import picture
from tests.recipe import LAW, OFFICIAL, follows, take


def test_crop_resolution_and_light_are_those_of_an_image_in_a_template():
    source, rows = make_source(people=4, each=2, size=8), np.arange(8)
    batches = take(image_batches(source, rows, 40, 0, LAW, size=8, one_clip_per_image=True), 3)
    apart = take(image_batches(source, rows, 40, 0, LAW, size=8), 3)
    shared = 0
    for batch, other in zip(batches, apart, strict=True):
        np.testing.assert_array_equal(batch.mask, other.mask)
        for b, n in zip(*np.nonzero(batch.mask), strict=True):
            image = batch.images[b, batch.clip[b, n]]
            np.testing.assert_array_equal(image, other.images[b, other.clip[b, n]])
            same = [m for m in range(n + 1) if (batch.images[b, batch.clip[b, m]] == image).all()]
            assert len({batch.clip[b, m] for m in same}) == 1
            shared += len({other.clip[b, m] for m in same}) > 1
    assert shared > 100  # images are picked twice all the time here


def test_augmentation_sees_blue_first():
    """Grey is what tells: 114/1000 red in place of 299/1000."""
    faces = np.stack([np.asarray(picture(i, 56)) for i in range(8)])
    numbers, key = np.arange(8), jax.random.key(0)
    compiled = jax.jit(augment, static_argnums=4)

    def made(faces, bgr: bool) -> np.ndarray:
        return np.asarray(compiled(key, faces, numbers, numbers, Style(bgr)))

    red_first, blue_first = made(faces, False), made(faces, True)
    swapped = made(faces[..., ::-1], False)[..., ::-1]
    np.testing.assert_allclose(blue_first, swapped, atol=1e-6)
    assert np.abs(red_first - blue_first).max() > 0.02
    gray = np.stack([faces.mean(-1).astype(np.uint8)] * 3, -1)
    np.testing.assert_allclose(made(gray, False), made(gray, True), atol=1e-5)


def test_equalize_is_among_fourteen_operations():
    assert style_of(OFFICIAL.recipe) == Style(bgr=True, in_order=True)
    keys = jax.random.split(jax.random.key(0), 7000)
    drawn = jax.jit(jax.vmap(lambda key: augmentation.draw_frame(key, len(ORDERED_OPERATIONS))))(keys)
    pairs = np.asarray(drawn.operations) @ [14, 1]
    assert follows(np.bincount(pairs, minlength=14 * 14), np.ones(14 * 14))


_equalize = jax.jit(image_ops.equalize)


@pytest.mark.parametrize("kind", ["picture", "dark", "flat", "two levels", "mostly white"])
def test_equalize_is_that_of_pillow(kind):
    face = np.array(picture(3))
    face = {
        "picture": face,
        "dark": face // 8,
        "flat": np.full_like(face, 77),
        "two levels": np.where(face > 90, 200, 10).astype(np.uint8),
        "mostly white": np.where(np.arange(112)[:, None, None] < 2, face, 255).astype(np.uint8),
    }[kind]
    theirs = np.asarray(ImageOps.equalize(Image.fromarray(face)))
    ours = np.round(np.asarray(_equalize(face.astype(np.float32) / 255)) * 255)
    np.testing.assert_array_equal(ours, theirs)


def by_pillow(face: Image.Image, operation: str) -> Image.Image:
    """An operation at magnitude 9 of 30 with a positive sign, as torchvision applies it with Pillow."""
    middle = 56.0
    match operation:
        case "equalize":
            return ImageOps.equalize(face)
        case "posterize":
            return ImageOps.posterize(face, 7)
        case "solarize":
            return ImageOps.solarize(face, 178.5)
        case "auto_contrast":
            return ImageOps.autocontrast(face)
        case "translate_x":
            matrix = (1, 0, -15, 0, 1, 0)
        case "rotate":
            c, s = math.cos(math.radians(9)), math.sin(math.radians(9))
            matrix = (c, -s, middle * (1 - c + s), s, c, middle * (1 - c - s))
    return face.transform((112, 112), Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


@pytest.mark.parametrize(
    "operations",
    [
        ("solarize", "translate_x"),
        ("translate_x", "solarize"),
        ("rotate", "equalize"),
        ("equalize", "rotate"),
        ("equalize", "posterize"),
        ("translate_x", "auto_contrast"),
    ],
)
def test_operations_are_applied_in_the_order_drawn(operations):
    face = picture(5)
    theirs = by_pillow(by_pillow(face, operations[0]), operations[1])
    numbers = np.array([ORDERED_OPERATIONS.index(operation) for operation in operations])
    # The same motion as torchvision's; which sign is its positive one does not change what is drawn.
    sign = np.float32([-1.0 if operation == "translate_x" else 1.0 for operation in operations])
    drawn = FrameVariation(numbers, sign, np.bool_(False))
    ours = np.round(np.asarray(_vary(np.asarray(face, np.float32) / 255, drawn)) * 255)
    assert np.mean(np.abs(ours - np.asarray(theirs, np.float32)) > 1) < 0.002  # ties of the nearest pixel


_vary = jax.jit(augmentation.vary_frame_in_order)


def test_values_stay_in_range_and_one_compilation_serves_all():
    faces, numbers = np.stack([np.asarray(picture(i, 56)) for i in range(4)]), np.arange(4)
    made = jax.jit(lambda *given: augment(*given, Style(True, True)))
    for step in range(8):
        out = np.asarray(made(jax.random.key(step), faces, numbers, numbers))
        assert out.min() >= 0 and out.max() <= 1 and np.isfinite(out).all()
    assert made._cache_size() == 1
