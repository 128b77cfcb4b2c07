"""Encoded images to pixels."""

import io
import os
from typing import BinaryIO

import numpy as np

from fpsset.errors import InputError

_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")  # Pillow's others are rarely tested, and one starts a program


class UnreadableImage(Exception):
    """An image gives no aligned face; the message says why."""


def require_pillow() -> None:
    """Raises InputError unless images can be read."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise InputError("images need Pillow; pip install 'fpsset[images]'") from error


def open_rgb(file: str | os.PathLike | BinaryIO):
    """Reads an image file as a PIL image of RGB.

    Raises:
      UnreadableImage: it is missing or damaged.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=_FORMATS) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a whole image"
        raise UnreadableImage(reason) from error


def decode_crop(encoded: bytes, size: int) -> np.ndarray:
    """Decodes an aligned crop: [size, size, 3] uint8, RGB.

    Raises:
      UnreadableImage: the bytes are no whole image, or one of another size.
    """
    return require_crop(open_rgb(io.BytesIO(encoded)), size)


def require_crop(image, size: int) -> np.ndarray:
    """A PIL image of `size` pixels a side as an array; raises UnreadableImage for one of another size."""
    if image.size != (size, size):
        width, height = image.size
        raise UnreadableImage(f"{width} x {height} pixels, no aligned crop of {size}; give landmarks")
    return np.asarray(image)
