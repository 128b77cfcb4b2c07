"""Operations on one image [H, W, 3] of RGB in [0, 1], each for parameters that a trace may hold.

All are pure and keep the shape, so that `jax.vmap` makes batches of them.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.ndimage import map_coordinates

INTERPOLATIONS = ("nearest", "linear", "cubic", "lanczos", "area")
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def keep_box(image: jax.Array, top: jax.Array, left: jax.Array, height: jax.Array, width: jax.Array):
    """The image with zeros outside a box of whole pixels; what is inside stays where it is."""
    rows, columns = (jnp.arange(n) for n in image.shape[:2])
    inside_rows, inside_columns = (
        (places >= start) & (places < start + length)
        for places, start, length in ((rows, top, height), (columns, left, width))
    )
    return jnp.where((inside_rows[:, None] & inside_columns[None, :])[..., None], image, 0)


def low_resolution(image: jax.Array, size: jax.Array, down: jax.Array, up: jax.Array) -> jax.Array:
    """The image resized to fewer pixels and back, clipped to [0, 1].

    Args:
      image: [n, n, 3].
      size: [] int32, pixels a side between the two, in 1 ... n; n leaves the image as it is, with 'nearest'
        to the last bit.
      down: [] int32, place in `INTERPOLATIONS` on the way there, and
      up: on the way back.
    """
    n = image.shape[0]
    there_and_back = jnp.matmul(
        resize_weights(up, size, n, n), resize_weights(down, n, size, n), precision=lax.Precision.HIGHEST
    )
    # Both axes at once: the matrix is the same for rows and columns.
    resized = jnp.einsum(
        "yr,rcd,xc->yxd", there_and_back, image, there_and_back, precision=lax.Precision.HIGHEST
    )
    return jnp.clip(resized, 0, 1)


def resize_weights(method: jax.Array, size_in: jax.Array, size_out: jax.Array, slots: int) -> jax.Array:
    """Interpolation from `size_in` to `size_out` pixels as a matrix of one shape for all sizes.

    Pixels lie at their centres. As in OpenCV, kernels have the width of input pixels, so that going down
    aliases, as cheap cameras and codecs do; 'area' alone averages. Weights at borders are renormalised.

    Args:
      method: [] int32, place in `INTERPOLATIONS`. Cubic is Keys' (1981) with a = -3/4.
      size_in: [] int32, at most `slots`.
      size_out: [] int32, at most `slots`.
      slots: rows and columns of the result.

    Returns:
      [slots, slots] float32; row i < size_out weighs the input pixels, with sum 1. Rows beyond are of no
      output pixel, columns from size_in on are zero.
    """
    scale = jnp.float32(size_in) / size_out
    pixels = jnp.arange(slots, dtype=jnp.float32)
    x = pixels[None, :] - ((pixels + 0.5) * scale - 0.5)[:, None]
    away = jnp.abs(x)
    near, far = 1.25 * away**3 - 2.25 * away**2 + 1, -0.75 * (away**3 - 5 * away**2 + 8 * away - 4)
    kernels = (
        jnp.where((x >= -0.5) & (x < 0.5), 1.0, 0.0),
        jnp.maximum(1 - away, 0),
        jnp.where(away < 1, near, jnp.where(away < 2, far, 0)),
        jnp.where(away < 4, jnp.sinc(x) * jnp.sinc(x / 4), 0),
        jnp.clip((scale + 1) / 2 - away, 0, jnp.minimum(scale, 1)),  # overlap of two intervals
    )
    weights = jnp.where(pixels[None, :] < size_in, jnp.stack(kernels)[method], 0)
    total = weights.sum(1, keepdims=True)
    return weights / jnp.where(total == 0, 1, total)


def blend(image: jax.Array, reference: jax.Array, factor: jax.Array) -> jax.Array:
    """reference + factor (image - reference), clipped to [0, 1]; factor 1 gives the image back."""
    return jnp.clip(reference + factor * (image - reference), 0, 1)


def gray(image: jax.Array) -> jax.Array:
    """Luma as three equal channels."""
    luma = jnp.matmul(image, jnp.array(_LUMA), precision=lax.Precision.HIGHEST)
    return jnp.broadcast_to(luma[..., None], image.shape)


def mean_gray(image: jax.Array) -> jax.Array:
    """The mean luma in every pixel."""
    return jnp.full_like(image, gray(image).mean())


def smooth(image: jax.Array) -> jax.Array:
    """3 x 3 means in which the centre counts five times; the border stays."""
    height, width, _ = image.shape
    around = sum(image[y : y + height - 2, x : x + width - 2] for y in range(3) for x in range(3))
    return image.at[1:-1, 1:-1].set((around + 4 * image[1:-1, 1:-1]) / 13)


def posterize(image: jax.Array, bits: int) -> jax.Array:
    """Keeps the first `bits` of 8-bit values."""
    step = 2 ** (8 - bits)
    return jnp.floor(image * 255 / step) * step / 255


def solarize(image: jax.Array, threshold: float) -> jax.Array:
    """Inverts values from `threshold` on."""
    return jnp.where(image < threshold, image, 1 - image)


def auto_contrast(image: jax.Array) -> jax.Array:
    """Stretches each channel to [0, 1]; one of a single value stays."""
    low, high = image.min((0, 1), keepdims=True), image.max((0, 1), keepdims=True)
    flat = high == low
    return jnp.where(flat, image, (image - low) / jnp.where(flat, 1, high - low))


def warp(image: jax.Array, matrix: jax.Array) -> jax.Array:
    """Moves an image, bilinearly and with zeros from outside.

    Args:
      image: [H, W, 3].
      matrix: [3, 3], takes (x, y, 1) from the centre of the result to (x, y, 1) from the centre of the
        image.
    """
    height, width, _ = image.shape
    middle = jnp.array([(width - 1) / 2, (height - 1) / 2])
    y, x = jnp.mgrid[:height, :width]
    places = jnp.stack([x, y], -1) - middle[None, None]
    places = jnp.einsum("ij,yxj->iyx", matrix[:2, :2], places, precision=lax.Precision.HIGHEST)
    x, y = places + (matrix[:2, 2] + middle)[:, None, None]
    return jax.vmap(lambda channel: map_coordinates(channel, (y, x), order=1), -1, -1)(image)
