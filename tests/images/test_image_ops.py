"""Image operations agree with closed forms, and with Pillow where it has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from fpsset.images import image_ops
from tests.images.images import picture

METHODS = range(len(image_ops.INTERPOLATIONS))
SLOTS = 16
weights = jax.jit(image_ops.resize_weights, static_argnums=3)
low_resolution, keep_box, warp = map(jax.jit, (image_ops.low_resolution, image_ops.keep_box, image_ops.warp))
auto_contrast = jax.jit(image_ops.auto_contrast)


def image(seed: int, size: int = 112) -> np.ndarray:
    return np.asarray(picture(seed, size), np.float32) / 255


def eight_bits(values) -> np.ndarray:
    return np.round(np.asarray(values) * 255)


@given(st.sampled_from(METHODS), st.integers(1, SLOTS), st.integers(1, SLOTS))
def test_resize_weights_average_input_pixels(method, size_in, size_out):
    matrix = np.asarray(weights(method, size_in, size_out, SLOTS))
    assert np.isfinite(matrix).all()
    np.testing.assert_allclose(matrix[:size_out].sum(1), 1, atol=1e-5)
    assert (matrix[:, size_in:] == 0).all()


def test_resize_weights_match_values_by_hand():
    nearest, linear, cubic, lanczos, area = (np.asarray(weights(m, 4, 2, 4))[:2] for m in METHODS)
    assert {tuple(row) for row in nearest} <= {(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)}
    for mean_of_two in (linear, area):
        np.testing.assert_allclose(mean_of_two, [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    # Keys' weights halfway between pixels are -3/32, 19/32, 19/32, -3/32, renormalised at the border.
    np.testing.assert_allclose(cubic[0], np.array([19, 19, -3, 0]) / 35, atol=1e-6)
    sinc = np.sinc([0.5, 0.5, 1.5, 2.5]) * np.sinc(np.array([0.5, 0.5, 1.5, 2.5]) / 4)
    np.testing.assert_allclose(lanczos[0], sinc / sinc.sum(), atol=1e-6)
    np.testing.assert_allclose(weights(4, 3, 2, 3)[:2], [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_full_resolution_and_constant_images_are_unchanged(method):
    given_image = image(1)
    out = low_resolution(given_image, 112, method, METHODS[-1 - method])
    np.testing.assert_allclose(out, given_image, atol=1e-6)
    np.testing.assert_array_equal(low_resolution(given_image, 112, 0, 0), given_image)
    constant = np.full_like(given_image, 0.3)
    for size in (1, 23, 57):
        np.testing.assert_allclose(low_resolution(constant, size, method, method), constant, atol=1e-6)


def test_area_down_and_nearest_up_give_flat_blocks():
    out = np.asarray(low_resolution(image(2), 28, 4, 0))
    blocks = image(2).reshape(28, 4, 28, 4, 3).mean((1, 3))
    np.testing.assert_allclose(out, blocks.repeat(4, 0).repeat(4, 1), atol=1e-5)


@given(st.integers(0, 111), st.integers(0, 111), st.integers(1, 112), st.integers(1, 112))
def test_a_crop_zeroes_only_the_outside(top, left, height, width):
    given_image = image(3) + 1
    out = np.asarray(keep_box(given_image, top, left, height, width))
    expected = np.zeros_like(given_image)
    box = np.s_[top : top + height, left : left + width]
    expected[box] = given_image[box]
    np.testing.assert_array_equal(out, expected)


def test_operations_on_light_match_pillow():
    pil, values = picture(4), image(4)
    references = {
        ImageEnhance.Brightness: jnp.zeros_like,
        ImageEnhance.Contrast: image_ops.mean_gray,
        ImageEnhance.Color: image_ops.gray,
        ImageEnhance.Sharpness: image_ops.smooth,
    }
    for enhance, reference in references.items():
        blended = jax.jit(lambda x, factor, of=reference: image_ops.blend(x, of(x), factor))
        for factor in (0.5, 1.0, 1.5):
            ours = eight_bits(blended(values, factor))
            assert np.abs(ours - np.asarray(enhance(pil).enhance(factor), np.float32)).max() <= 2
    smooth = eight_bits(jax.jit(image_ops.smooth)(values))
    assert np.abs(smooth - np.asarray(pil.filter(ImageFilter.SMOOTH), np.float32)).max() <= 1
    posterized = eight_bits(jax.jit(image_ops.posterize)(values, 3))
    np.testing.assert_array_equal(posterized, np.asarray(ImageOps.posterize(pil, 3)))
    solarized = eight_bits(jax.jit(image_ops.solarize)(values, 179 / 255))
    np.testing.assert_array_equal(solarized, np.asarray(ImageOps.solarize(pil, 179)))
    stretched = eight_bits(auto_contrast(values))
    assert np.abs(stretched - np.asarray(ImageOps.autocontrast(pil), np.float32)).max() <= 1
    constant = np.full((8, 8, 3), 0.4, np.float32)
    np.testing.assert_array_equal(auto_contrast(constant), constant)


def test_warps_match_shifts_rotations_and_pillow():
    values = image(5)
    np.testing.assert_array_equal(warp(values, np.eye(3, dtype=np.float32)), values)
    shifted = np.asarray(warp(values, np.float32([[1, 0, 3], [0, 1, 0], [0, 0, 1]])))
    np.testing.assert_array_equal(shifted[:, :-3], values[:, 3:])
    assert (shifted[:, -3:] == 0).all()
    turned = warp(values, np.float32([[0, -1, 0], [1, 0, 0], [0, 0, 1]]))
    np.testing.assert_allclose(turned, np.rot90(values, 1), atol=1e-5)
    matrix = np.float32([[1, 0.1, 2.5], [-0.2, 1, 1.25], [0, 0, 1]])
    middle = 56.0  # Pillow's origin is the corner of the first pixel
    (a, b, c), (d, e, f), _ = matrix
    ours_of = (a, b, c + middle * (1 - a - b), d, e, f + middle * (1 - d - e))
    theirs = picture(5).transform((112, 112), Image.Transform.AFFINE, ours_of, Image.Resampling.BILINEAR)
    inside = np.s_[20:-20, 20:-20]
    ours = eight_bits(warp(values, matrix))
    assert np.abs(ours - np.asarray(theirs, np.float32))[inside].max() <= 1
