"""Augmentation: from one image of a person, clips of frames that differ as a camera's do.

A clip takes its image through a crop, a loss of resolution and a change of light, each with probability
1/2; each of its frames then goes through RandAugment and, with probability 1/2, a mirror (FaceCoresetNet,
arXiv 2308.14075, supplement; the first three as in AdaFace, arXiv 2204.00964, section 4.1). What is drawn
and what it does to an image are apart: an operation that is not drawn has the parameters that do nothing.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fpsset.images import image_ops

_PROBABILITY = 0.5
_CROP_AREA = (0.2, 1.0)
_CROP_RATIO = (0.75, 4 / 3)  # width / height
_CROP_TRIES = 10
_SIDE_RATIO = (0.2, 1.0)
_JITTER = 0.5  # of brightness, contrast and saturation: factors in 1 -+ this

_CLIP, _FRAME = 0, 1  # streams of keys


def augment(key: jax.Array, images: jax.Array, clips: jax.Array, frames: jax.Array) -> jax.Array:
    """Augments a batch; a frame depends on the key, its image and its two numbers alone.

    Args:
      key: of the batch.
      images: [B, n, n, 3] uint8, RGB: the image that each frame is made of.
      clips: [B] int32; frames of one number, of the same image, share crop, resolution and light.
      frames: [B] int32, a number of its own for each frame.

    Returns:
      [B, n, n, 3] float32, RGB in [0, 1].
    """
    clip_root, frame_root = (jax.random.fold_in(key, stream) for stream in (_CLIP, _FRAME))

    def one(image, clip, frame):
        size = image.shape[0]
        image = image.astype(jnp.float32) / 255
        image = vary_clip(image, draw_clip(jax.random.fold_in(clip_root, clip), size))
        return vary_frame(image, draw_frame(jax.random.fold_in(frame_root, frame)))

    return jax.vmap(one)(images, clips, frames)


class ClipVariation(NamedTuple):
    """What the frames of a clip have in common."""

    box: jax.Array  # [4] int32 pixels that are kept: top, left, height, width
    size: jax.Array  # [] int32 pixels a side, the resolution
    down: jax.Array  # [] int32, interpolation to it, and
    up: jax.Array  # [] int32, back
    order: jax.Array  # [3] int32, in which light is changed
    factors: jax.Array  # [3] float32 of brightness, contrast, saturation


def draw_clip(key: jax.Array, size: int) -> ClipVariation:
    """Draws the variation of a clip of images of `size` pixels a side."""
    keys = iter(jax.random.split(key, 9))
    crops, blurs, jitters = jax.random.bernoulli(next(keys), _PROBABILITY, (3,))
    box = _draw_box(next(keys), next(keys), size)
    ratio = jax.random.uniform(next(keys), (), jnp.float32, *_SIDE_RATIO)
    down, up = (jax.random.randint(next(keys), (), 0, len(image_ops.INTERPOLATIONS)) for _ in range(2))
    factors = jax.random.uniform(next(keys), (3,), jnp.float32, 1 - _JITTER, 1 + _JITTER)
    return ClipVariation(
        box=jnp.where(crops, box, jnp.array([0, 0, size, size])),
        size=jnp.where(blurs, (ratio * size).astype(jnp.int32), size),
        down=jnp.where(blurs, down, 0),
        up=jnp.where(blurs, up, 0),
        order=jax.random.permutation(next(keys), 3),
        factors=jnp.where(jitters, factors, 1.0),
    )


def vary_clip(image: jax.Array, drawn: ClipVariation) -> jax.Array:
    """Applies crop, resolution and light, in this order, to [n, n, 3] in [0, 1]."""
    image = image_ops.keep_box(image, *drawn.box)
    image = image_ops.low_resolution(image, drawn.size, drawn.down, drawn.up)
    for which in drawn.order:
        references = (jnp.zeros_like(image), image_ops.mean_gray(image), image_ops.gray(image))
        image = image_ops.blend(image, jnp.stack(references)[which], drawn.factors[which])
    return image


def _draw_box(shape_key: jax.Array, place_key: jax.Array, size: int) -> jax.Array:
    """[4] int32: top, left, height, width of a crop; the first shape of a few that fits is taken."""
    area_key, ratio_key = jax.random.split(shape_key)
    area = size**2 * jax.random.uniform(area_key, (_CROP_TRIES,), jnp.float32, *_CROP_AREA)
    low, high = (math.log(ratio) for ratio in _CROP_RATIO)
    ratio = jnp.exp(jax.random.uniform(ratio_key, (_CROP_TRIES,), jnp.float32, low, high))
    shapes = jnp.round(jnp.sqrt(jnp.stack([area / ratio, area * ratio], 1)))
    shape = jnp.minimum(shapes[jnp.argmax((shapes <= size).all(1))], size)
    start = jnp.floor(jax.random.uniform(place_key, (2,)) * (size - shape + 1))
    return jnp.concatenate([start, shape]).astype(jnp.int32)


# RandAugment (arXiv 1909.13719): two operations at magnitude 9 of 30, each drawn from these with equal
# chances, signs too. Equalize is left out: a histogram a channel is slow on accelerators. Motions are
# numbers 1 to 5, and all are done in one warp, so that an image is interpolated once.
OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *("brightness", "contrast", "color", "sharpness", "posterize", "solarize", "auto_contrast"),
)
_FIRST_OF_LIGHT = OPERATIONS.index("brightness")
_DRAWS = 2
_MAGNITUDE = 0.3
_SHEAR, _ROTATION, _TRANSLATION = 0.3, 30.0, 150 / 331  # at magnitude 1: slope, degrees, share of a side
_ENHANCE = 0.9  # factors of brightness, contrast, color and sharpness at magnitude 1: 1 -+ this
_POSTERIZE_BITS = 8 - round(4 * _MAGNITUDE)
_SOLARIZE_FROM = 1 - _MAGNITUDE


class FrameVariation(NamedTuple):
    """What is a frame's own."""

    operations: jax.Array  # [2] int32, places in `OPERATIONS`
    signs: jax.Array  # [2] float32, -1 or 1
    mirrored: jax.Array  # [] bool


def draw_frame(key: jax.Array) -> FrameVariation:
    """Draws the variation of a frame."""
    operations, signs, mirrored = jax.random.split(key, 3)
    return FrameVariation(
        operations=jax.random.randint(operations, (_DRAWS,), 0, len(OPERATIONS)),
        signs=jax.random.rademacher(signs, (_DRAWS,), jnp.float32),
        mirrored=jax.random.bernoulli(mirrored, _PROBABILITY),
    )


def vary_frame(image: jax.Array, drawn: FrameVariation) -> jax.Array:
    """Applies motions, light and mirror, in this order, to [n, n, 3] in [0, 1]."""
    motions = jnp.array(_motions(image.shape[0]))
    sign = (drawn.signs > 0).astype(jnp.int32)
    first, second = motions[drawn.operations, sign]
    image = image_ops.warp(image, jnp.matmul(first, second, precision=lax.Precision.HIGHEST))
    for operation, sign in zip(drawn.operations, drawn.signs, strict=True):
        image = lax.switch(jnp.maximum(operation - _FIRST_OF_LIGHT + 1, 0), _LIGHT, image, sign)
    return jnp.where(drawn.mirrored, image[:, ::-1], image)


@functools.cache
def _motions(size: int) -> np.ndarray:
    """[operations, signs, 3, 3] matrices for `image_ops.warp`; the identity for what moves nothing."""
    matrices = np.tile(np.eye(3, dtype=np.float32), (len(OPERATIONS), 2, 1, 1))
    at = OPERATIONS.index
    for i, sign in enumerate((-1, 1)):
        magnitude = sign * _MAGNITUDE
        matrices[at("shear_x"), i, 0, 1] = matrices[at("shear_y"), i, 1, 0] = magnitude * _SHEAR
        shift = magnitude * _TRANSLATION * size
        matrices[at("translate_x"), i, 0, 2] = matrices[at("translate_y"), i, 1, 2] = shift
        angle = math.radians(magnitude * _ROTATION)
        c, s = math.cos(angle), math.sin(angle)
        matrices[at("rotate"), i, :2, :2] = [[c, -s], [s, c]]
    return matrices


def _enhance(reference):
    return lambda image, sign: image_ops.blend(image, reference(image), 1 + sign * _MAGNITUDE * _ENHANCE)


# Each takes an image and a sign; the first stands for all that leaves light alone.
_LIGHT = (
    lambda image, sign: image,
    _enhance(jnp.zeros_like),
    _enhance(image_ops.mean_gray),
    _enhance(image_ops.gray),
    _enhance(image_ops.smooth),
    lambda image, sign: image_ops.posterize(image, _POSTERIZE_BITS),
    lambda image, sign: image_ops.solarize(image, _SOLARIZE_FROM),
    lambda image, sign: image_ops.auto_contrast(image),
)
