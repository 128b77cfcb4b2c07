"""Augmentation: turns one image of a person into clips whose frames vary as a camera's do.

A clip applies a crop, a loss of resolution and a change of light to its image, each with probability 1/2.
Each frame of the clip then undergoes RandAugment and, with probability 1/2, is mirrored (FaceCoresetNet,
arXiv 2308.14075, supplement; the variations of a clip are those of AdaFace, arXiv 2204.00964, section 4.1).
`Style` tells what the official code does otherwise. Drawing parameters and applying them are separate
functions; a variation that is not drawn gets parameters that leave the image unchanged.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fpsset.images import image_ops
from fpsset.ops.precision import matmul

_PROBABILITY = 0.5
_CROP_AREA = (0.2, 1.0)
_CROP_RATIO = (0.75, 4 / 3)  # width / height
_CROP_TRIES = 10
_SIDE_RATIO = (0.2, 1.0)
_JITTER = 0.5  # factors of brightness, contrast and saturation are in 1 -+ this


class Style(NamedTuple):
    """What may be done in two ways; the defaults are faster on accelerators.

    Attributes:
      bgr: swap red and blue before the operations, whose grey then weighs blue as red, and back after them.
      in_order: apply RandAugment's operations, Equalize among them, one after another as drawn, each motion
        to the nearest pixel; False: first all motions in one linear interpolation, then light.
    """

    bgr: bool = False
    in_order: bool = False


def style_of(fields) -> Style:
    """The style that `channels` and `operations` of a config describe."""
    return Style(bgr=fields.channels == "bgr", in_order=fields.operations == "ordered")


_STYLE = Style()
_CLIP_STREAM, _FRAME_STREAM = 0, 1  # folded into the batch's key


def augment(
    key: jax.Array, images: jax.Array, clips: jax.Array, frames: jax.Array, style: Style = _STYLE
) -> jax.Array:
    """Augments a batch of images; each result depends only on the key, its image and its two numbers.

    Args:
      key: PRNG key of the batch.
      images: [B, n, n, 3] uint8, RGB: the image from which each frame is made.
      clips: [B] int32 clip numbers; frames with the same number share crop, resolution and light.
      frames: [B] int32, a distinct number for each frame.
      style: of the operations; static under `jax.jit`.

    Returns:
      [B, n, n, 3] float32, RGB in [0, 1].
    """
    clip_root, frame_root = (jax.random.fold_in(key, stream) for stream in (_CLIP_STREAM, _FRAME_STREAM))

    def augment_one(image, clip, frame):
        size = image.shape[0]
        image = (image[..., ::-1] if style.bgr else image).astype(jnp.float32) / 255
        image = vary_clip(image, draw_clip(jax.random.fold_in(clip_root, clip), size))
        drawn = draw_frame(jax.random.fold_in(frame_root, frame), len(operations_of(style)))
        image = (vary_frame_in_order if style.in_order else vary_frame)(image, drawn)
        return image[..., ::-1] if style.bgr else image

    return jax.vmap(augment_one)(images, clips, frames)


class ClipVariation(NamedTuple):
    """Parameters shared by the frames of a clip."""

    box: jax.Array  # [4] int32, the pixels to keep: top, left, height, width
    size: jax.Array  # [] int32, the reduced resolution in pixels per side
    down: jax.Array  # [] int32, index into `INTERPOLATIONS` for shrinking
    up: jax.Array  # [] int32, index into `INTERPOLATIONS` for enlarging
    order: jax.Array  # [3] int32, the order in which brightness, contrast and saturation change
    factors: jax.Array  # [3] float32 factors of brightness, contrast and saturation


def draw_clip(key: jax.Array, size: int) -> ClipVariation:
    """Draws the parameters of a clip, for images of `size` pixels per side."""
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
    """Applies crop, resolution and light, in this order, to an image [n, n, 3] in [0, 1]."""
    image = image_ops.keep_box(image, *drawn.box)
    image = image_ops.low_resolution(image, drawn.size, drawn.down, drawn.up)
    for which in drawn.order:
        references = (jnp.zeros_like(image), image_ops.mean_gray(image), image_ops.gray(image))
        image = image_ops.blend(image, jnp.stack(references)[which], drawn.factors[which])
    return image


def _draw_box(shape_key: jax.Array, place_key: jax.Array, size: int) -> jax.Array:
    """Draws a crop, [4] int32: top, left, height, width; takes the first of a few shapes that fits."""
    area_key, ratio_key = jax.random.split(shape_key)
    area = size**2 * jax.random.uniform(area_key, (_CROP_TRIES,), jnp.float32, *_CROP_AREA)
    low, high = (math.log(ratio) for ratio in _CROP_RATIO)
    ratio = jnp.exp(jax.random.uniform(ratio_key, (_CROP_TRIES,), jnp.float32, low, high))
    shapes = jnp.round(jnp.sqrt(jnp.stack([area / ratio, area * ratio], 1)))
    shape = jnp.minimum(shapes[jnp.argmax((shapes <= size).all(1))], size)
    start = jnp.floor(jax.random.uniform(place_key, (2,)) * (size - shape + 1))
    return jnp.concatenate([start, shape]).astype(jnp.int32)


# RandAugment (arXiv 1909.13719): two operations at magnitude 9 of 30, drawn uniformly from these, with
# random signs. Operations 1 to 5 move the image. Equalize, the last, is drawn only where operations are
# applied in order, because per-channel histograms are slow on accelerators.
OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *("brightness", "contrast", "color", "sharpness", "posterize", "solarize", "auto_contrast"),
)
ORDERED_OPERATIONS = (*OPERATIONS, "equalize")
_FIRST_LIGHT_OPERATION = OPERATIONS.index("brightness")
_DRAWS = 2
_MAGNITUDE = 0.3
_SHEAR, _ROTATION, _TRANSLATION = 0.3, 30.0, 150 / 331  # at magnitude 1: slope, degrees, share of a side
_ENHANCE = 0.9  # at magnitude 1, factors of brightness, contrast, color and sharpness are 1 -+ this
_POSTERIZE_BITS = 8 - round(4 * _MAGNITUDE)
_SOLARIZE_FROM = 1 - _MAGNITUDE


def operations_of(style: Style) -> tuple[str, ...]:
    """The operations that are drawn."""
    return ORDERED_OPERATIONS if style.in_order else OPERATIONS


class FrameVariation(NamedTuple):
    """Parameters of a single frame."""

    operations: jax.Array  # [2] int32 indices into `ORDERED_OPERATIONS`
    signs: jax.Array  # [2] float32, -1 or 1
    mirrored: jax.Array  # [] bool


def draw_frame(key: jax.Array, choices: int = len(OPERATIONS)) -> FrameVariation:
    """Draws the parameters of a frame, with operations from the first `choices` of `ORDERED_OPERATIONS`."""
    operations, signs, mirrored = jax.random.split(key, 3)
    return FrameVariation(
        operations=jax.random.randint(operations, (_DRAWS,), 0, choices),
        signs=jax.random.rademacher(signs, (_DRAWS,), jnp.float32),
        mirrored=jax.random.bernoulli(mirrored, _PROBABILITY),
    )


def vary_frame(image: jax.Array, drawn: FrameVariation) -> jax.Array:
    """Applies motions, light and mirror, in this order, to an image [n, n, 3] in [0, 1]."""
    # Both motions are one warp, so that an image is interpolated only once.
    image = image_ops.warp(image, matmul(*_motions(image, drawn)))
    for operation, sign in zip(drawn.operations, drawn.signs, strict=True):
        image = _vary_light(image, operation, sign, _LIGHT_OPERATIONS)
    return jnp.where(drawn.mirrored, image[:, ::-1], image)


def vary_frame_in_order(image: jax.Array, drawn: FrameVariation) -> jax.Array:
    """Applies the operations in the order drawn, then the mirror, to an image [n, n, 3] in [0, 1]."""
    motions = _motions(image, drawn)
    for motion, operation, sign in zip(motions, drawn.operations, drawn.signs, strict=True):
        image = image_ops.warp(image, motion, nearest=True)  # the image itself where it does not move
        image = _vary_light(image, operation, sign, _ORDERED_LIGHT_OPERATIONS)
    return jnp.where(drawn.mirrored, image[:, ::-1], image)


def _motions(image: jax.Array, drawn: FrameVariation) -> jax.Array:
    return jnp.array(_motion_matrices(image.shape[0]))[drawn.operations, (drawn.signs > 0).astype(jnp.int32)]


def _vary_light(image: jax.Array, operation: jax.Array, sign: jax.Array, operations: tuple) -> jax.Array:
    return lax.switch(jnp.maximum(operation - _FIRST_LIGHT_OPERATION + 1, 0), operations, image, sign)


@functools.cache
def _motion_matrices(size: int) -> np.ndarray:
    """[operations, signs, 3, 3] matrices for `image_ops.warp`; the identity for operations on light."""
    matrices = np.tile(np.eye(3, dtype=np.float32), (len(ORDERED_OPERATIONS), 2, 1, 1))
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


# Functions of an image and a sign. The first one is for all operations that leave light alone.
_LIGHT_OPERATIONS = (
    lambda image, sign: image,
    _enhance(jnp.zeros_like),
    _enhance(image_ops.mean_gray),
    _enhance(image_ops.gray),
    _enhance(image_ops.smooth),
    lambda image, sign: image_ops.posterize(image, _POSTERIZE_BITS),
    lambda image, sign: image_ops.solarize(image, _SOLARIZE_FROM),
    lambda image, sign: image_ops.auto_contrast(image),
)
_ORDERED_LIGHT_OPERATIONS = (*_LIGHT_OPERATIONS, lambda image, sign: image_ops.equalize(image))
