"""Augmentation: how often each variation is drawn, and what a frame depends on."""

import jax
import numpy as np
import pytest

from fpsset.images import augmentation
from fpsset.images.augmentation import OPERATIONS, ClipVariation, FrameVariation, augment
from tests.images.images import picture

DRAWS = 4000
augmented = jax.jit(augment)
vary = jax.jit(augmentation.vary_frame)
SIZE = 56
FACES = np.stack([np.asarray(picture(i, SIZE)) for i in range(6)])
CLIPS = np.array([0, 0, 1, 2, 2, 2], np.int32)
FRAMES = np.arange(6, dtype=np.int32)


@pytest.fixture(scope="module")
def clips() -> ClipVariation:
    keys = jax.random.split(jax.random.key(0), DRAWS)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: augmentation.draw_clip(key, 112)))(keys))


@pytest.fixture(scope="module")
def frames() -> FrameVariation:
    keys = jax.random.split(jax.random.key(1), DRAWS)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(augmentation.draw_frame))(keys))


def is_binomial(hits, probability: float, draws: int = DRAWS) -> bool:
    """Whether a count is within 4.5 standard deviations of the binomial mean."""
    return abs(np.sum(hits) - draws * probability) < 4.5 * np.sqrt(draws * probability * (1 - probability))


def test_each_variation_of_a_clip_is_drawn_half_of_the_time_independently(clips):
    whole = (clips.box == [0, 0, 112, 112]).all(1)
    untouched = np.stack([whole, clips.size == 112, (clips.factors == 1).all(1)])
    assert all(is_binomial(hits, 0.5) for hits in untouched)
    assert is_binomial(untouched.all(0), 1 / 8)
    assert is_binomial(untouched[0] != untouched[1], 0.5)
    assert all(is_binomial(untouched[2] ^ hits, 0.5) for hits in untouched[:2])


def test_crops_have_the_published_shapes_and_any_position(clips):
    top, left, height, width = clips.box[(clips.box != [0, 0, 112, 112]).any(1)].T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 112).all() and (left + width <= 112).all()
    area = height * width / 112**2
    assert 0.19 < area.min() < 0.22 and 0.95 < area.max() <= 1
    assert 0.73 < (width / height).min() < 0.77 and 1.3 < (width / height).max() < 1.36
    assert (
        is_binomial(np.log(width / height) > 0, 0.5, len(area)) or abs(np.log(width / height).mean()) < 0.02
    )
    free = (112 - height) > 20
    assert abs((top / np.maximum(112 - height, 1))[free].mean() - 0.5) < 0.03


def test_resolutions_and_light_factors_are_uniform(clips):
    ratio = clips.size[clips.size < 112] / 112
    assert ratio.min() >= 0.19 and abs(ratio.mean() - 0.6) < 0.02 and abs(ratio.std() - 0.8 / 12**0.5) < 0.02
    for interpolation in (clips.down, clips.up):
        assert (interpolation[clips.size == 112] == 0).all()
        assert all(is_binomial(interpolation[clips.size < 112] == i, 0.2, len(ratio)) for i in range(5))
    factors = clips.factors[(clips.factors != 1).any(1)]
    assert factors.min() >= 0.5 and factors.max() <= 1.5 and np.abs(factors.mean(0) - 1).max() < 0.03
    assert all(
        is_binomial((clips.order == order).all(1), 1 / 6) for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2])
    )


def test_operations_signs_and_mirrors_of_frames_are_uniform(frames):
    chance = 1 / len(OPERATIONS)
    assert all(is_binomial(frames.operations == i, chance, 2 * DRAWS) for i in range(len(OPERATIONS)))
    assert is_binomial(frames.operations[:, 0] == frames.operations[:, 1], chance)
    assert is_binomial(frames.signs > 0, 0.5, 2 * DRAWS) and set(np.unique(frames.signs)) == {-1, 1}
    assert is_binomial(frames.mirrored, 0.5)


def test_neutral_parameters_leave_the_image_unchanged():
    face = FACES[0].astype(np.float32) / 255
    nearest, light = np.int32(0), (np.array([2, 0, 1]), np.ones(3, np.float32))
    still = ClipVariation(np.array([0, 0, SIZE, SIZE]), np.int32(SIZE), nearest, nearest, *light)
    np.testing.assert_allclose(jax.jit(augmentation.vary_clip)(face, still), face, atol=1e-6)
    plain = FrameVariation(np.array([0, 0]), np.ones(2, np.float32), np.bool_(False))
    np.testing.assert_array_equal(vary(face, plain), face)
    mirror = plain._replace(mirrored=np.bool_(True))
    np.testing.assert_array_equal(vary(face, mirror), face[:, ::-1])
    twice = vary(vary(face, mirror), mirror)
    np.testing.assert_array_equal(twice, face)


def test_each_operation_changes_the_image_and_opposite_motions_cancel():
    face = 0.1 + FACES[0].astype(np.float32) / 400  # auto_contrast would not change the full range
    for i, name in enumerate(OPERATIONS):
        only = FrameVariation(np.array([i, 0]), np.ones(2, np.float32), np.bool_(False))
        changed = np.abs(np.asarray(vary(face, only)) - face).max() > 0.001
        assert changed == (name != "identity"), name
        if name in ("shear_x", "shear_y", "translate_x", "translate_y", "rotate"):
            there_and_back = FrameVariation(np.array([i, i]), np.float32([1, -1]), np.bool_(False))
            inside = np.s_[1:-1, 1:-1]
            np.testing.assert_allclose(vary(face, there_and_back)[inside], face[inside], atol=1e-4)


def test_a_frame_depends_only_on_its_key_and_numbers():
    key = jax.random.key(3)
    out = np.asarray(augmented(key, FACES, CLIPS, FRAMES))
    assert out.shape == FACES.shape and out.dtype == np.float32
    np.testing.assert_array_equal(augmented(key, FACES, CLIPS, FRAMES), out)
    turned = augmented(key, FACES[::-1], CLIPS[::-1], FRAMES[::-1])[::-1]
    np.testing.assert_array_equal(turned, out)
    for i in range(6):  # whatever else is in the batch
        alone = [np.repeat(array[i : i + 1], 6, axis=0) for array in (FACES, CLIPS, FRAMES)]
        np.testing.assert_array_equal(augmented(key, *alone), np.repeat(out[i : i + 1], 6, axis=0))
    other = np.asarray(augmented(jax.random.key(4), FACES, CLIPS, FRAMES))
    assert all(np.abs(a - b).max() > 0.05 for a, b in zip(out, other, strict=True))


def test_values_stay_in_range():
    augmented(jax.random.key(0), FACES, CLIPS, FRAMES)
    compiled = augmented._cache_size()
    for step in range(16):
        out = np.asarray(augmented(jax.random.key(step), FACES, CLIPS, FRAMES))
        assert out.min() >= 0 and out.max() <= 1 and np.isfinite(out).all()
    assert augmented._cache_size() == compiled


def test_frames_of_a_clip_share_only_the_variation_of_the_clip(monkeypatch):
    same = np.stack([FACES[0]] * 6)
    out = np.asarray(augmented(jax.random.key(5), same, CLIPS, FRAMES))
    assert len(np.unique(out.reshape(6, -1), axis=0)) == 6
    monkeypatch.setattr(augmentation, "vary_frame", lambda image, drawn: image)
    out = np.asarray(jax.jit(lambda *batch: augment(*batch))(jax.random.key(5), same, CLIPS, FRAMES))
    _, kinds = np.unique(out.reshape(6, -1), axis=0, return_inverse=True)
    assert (np.equal.outer(kinds, kinds) == np.equal.outer(CLIPS, CLIPS)).all()
