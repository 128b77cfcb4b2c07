"""Operations on one image [H, W, 3], RGB in [0, 1].

All are pure, keep the shape, and accept traced parameters unless typed otherwise, so that `jax.vmap` batches
them. They are our own because dm-pix 0.4.5 shares only `solarize`: its luma weights are rounded, its
contrast is per channel, its affine transform drops partly covered border pixels, and it cannot resize.
"""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from fpsset.ops.precision import einsum, matmul

INTERPOLATIONS = ("nearest", "linear", "cubic", "lanczos", "area")
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def keep_box(image: jax.Array, top: jax.Array, left: jax.Array, height: jax.Array, width: jax.Array):
    """Sets pixels outside a box to zero; the box stays in place. Its sides are [] int32 pixels."""
    rows, columns = (jnp.arange(n) for n in image.shape[:2])
    inside_rows, inside_columns = (
        (indices >= start) & (indices < start + length)
        for indices, start, length in ((rows, top, height), (columns, left, width))
    )
    return jnp.where((inside_rows[:, None] & inside_columns[None, :])[..., None], image, 0)


def low_resolution(image: jax.Array, size: jax.Array, down: jax.Array, up: jax.Array) -> jax.Array:
    """Resizes an image to fewer pixels and back, and clips it to [0, 1].

    Args:
      image: [n, n, 3].
      size: [] int32, the reduced resolution in pixels per side, in 1 ... n; n leaves the image unchanged up
        to rounding, and exactly with 'nearest'.
      down: [] int32, index into `INTERPOLATIONS` for shrinking.
      up: [] int32, index into `INTERPOLATIONS` for enlarging.
    """
    n = image.shape[0]
    round_trip = matmul(resize_weights(up, size, n, n), resize_weights(down, n, size, n))
    # Images are square, so one matrix serves rows and columns.
    resized = einsum("yr,rcd,xc->yxd", round_trip, image, round_trip)
    return jnp.clip(resized, 0, 1)


def resize_weights(method: jax.Array, size_in: jax.Array, size_out: jax.Array, slots: int) -> jax.Array:
    """The matrix that resizes from `size_in` to `size_out` pixels, padded to a shape that fits all sizes.

    Samples are at pixel centres. As in OpenCV, kernels are as wide as input pixels, so shrinking aliases, as
    it does in cheap cameras and codecs; only 'area' averages. Weights are renormalised at the borders.

    Args:
      method: [] int32, index into `INTERPOLATIONS`. 'cubic' is Keys (1981) with a = -3/4.
      size_in: [] int32, at most `slots`.
      size_out: [] int32, at most `slots`.
      slots: rows and columns of the result.

    Returns:
      [slots, slots] float32. Row i < size_out has the weights of the input pixels for output pixel i, which
      sum to 1. Further rows are meaningless; columns from size_in on are zero.
    """
    scale = jnp.float32(size_in) / size_out
    pixels = jnp.arange(slots, dtype=jnp.float32)
    x = pixels[None, :] - ((pixels + 0.5) * scale - 0.5)[:, None]
    distance = jnp.abs(x)
    near = 1.25 * distance**3 - 2.25 * distance**2 + 1
    far = -0.75 * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    kernels = (
        jnp.where((x >= -0.5) & (x < 0.5), 1.0, 0.0),
        jnp.maximum(1 - distance, 0),
        jnp.where(distance < 1, near, jnp.where(distance < 2, far, 0)),
        jnp.where(distance < 4, jnp.sinc(x) * jnp.sinc(x / 4), 0),
        jnp.clip((scale + 1) / 2 - distance, 0, jnp.minimum(scale, 1)),  # overlap of the two pixels
    )
    weights = jnp.where(pixels[None, :] < size_in, jnp.stack(kernels)[method], 0)
    total = weights.sum(1, keepdims=True)
    return weights / jnp.where(total == 0, 1, total)


def blend(image: jax.Array, reference: jax.Array, factor: jax.Array) -> jax.Array:
    """Returns reference + factor (image - reference), clipped to [0, 1]; factor 1 returns the image."""
    return jnp.clip(reference + factor * (image - reference), 0, 1)


def gray(image: jax.Array) -> jax.Array:
    """The luma (ITU-R BT.601), repeated in three channels."""
    luma = matmul(image, jnp.array(_LUMA))
    return jnp.broadcast_to(luma[..., None], image.shape)


def mean_gray(image: jax.Array) -> jax.Array:
    """The mean luma in every pixel."""
    return jnp.full_like(image, gray(image).mean())


def smooth(image: jax.Array) -> jax.Array:
    """Weighted means over 3 x 3 pixels in which the centre counts five times; the border is unchanged."""
    height, width, _ = image.shape
    around = sum(image[y : y + height - 2, x : x + width - 2] for y in range(3) for x in range(3))
    return image.at[1:-1, 1:-1].set((around + 4 * image[1:-1, 1:-1]) / 13)


def posterize(image: jax.Array, bits: int) -> jax.Array:
    """Keeps the `bits` most significant bits of 8-bit values."""
    step = 2 ** (8 - bits)
    return jnp.floor(image * 255 / step) * step / 255


def solarize(image: jax.Array, threshold: float) -> jax.Array:
    """Inverts values that are at least `threshold`."""
    return jnp.where(image < threshold, image, 1 - image)


def auto_contrast(image: jax.Array) -> jax.Array:
    """Stretches each channel to [0, 1]; a constant channel is unchanged."""
    low, high = image.min((0, 1), keepdims=True), image.max((0, 1), keepdims=True)
    flat = high == low
    return jnp.where(flat, image, (image - low) / jnp.where(flat, 1, high - low))


def equalize(image: jax.Array) -> jax.Array:
    """Spreads each channel's 8-bit values so that they are about equally frequent, as Pillow does.

    A channel whose values are all alike, or of whose pixels fewer than 255 lie below its highest value, is
    unchanged.
    """

    def equalized(channel: jax.Array) -> jax.Array:
        values = jnp.round(channel * 255).astype(jnp.int32)
        count = jnp.zeros(256, jnp.int32).at[values].add(1)
        step = (values.size - count[values.max()]) // 255
        below = jnp.cumsum(count) - count
        level = (step // 2 + below) // jnp.maximum(step, 1)
        return jnp.where(step > 0, jnp.minimum(level, 255)[values] / 255, channel)

    return jax.vmap(equalized, -1, -1)(image)


def warp(image: jax.Array, matrix: jax.Array, nearest: bool = False) -> jax.Array:
    """Applies an affine transform, with zeros outside the image.

    Args:
      image: [H, W, 3].
      matrix: [3, 3], maps pixels (x, y, 1) of the result to pixels (x, y, 1) of the image, both relative to
        the centre.
      nearest: take the nearest pixel; False: interpolate linearly.
    """
    height, width, _ = image.shape
    centre = jnp.array([(width - 1) / 2, (height - 1) / 2])
    y, x = jnp.mgrid[:height, :width]
    offsets = jnp.stack([x, y], -1) - centre[None, None]
    offsets = einsum("ij,yxj->iyx", matrix[:2, :2], offsets)
    x, y = offsets + (matrix[:2, 2] + centre)[:, None, None]
    order = 0 if nearest else 1
    return jax.vmap(lambda channel: map_coordinates(channel, (y, x), order=order), -1, -1)(image)
