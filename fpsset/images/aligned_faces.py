"""From encoded images to aligned faces: decoding, and alignment by landmarks."""

import contextlib
import io
import os
import pathlib
from typing import BinaryIO

import numpy as np

from fpsset.errors import InputError
from fpsset.models.iresnet import IMAGE_SIZE

# Positions (x, y) of eyes, nose and corners of the mouth in an aligned face of 112 x 112 pixels.
ARCFACE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
TEMPLATE = (ARCFACE_112 / IMAGE_SIZE).astype(np.float32)  # as shares of the face's width and height
_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")  # Pillow's other decoders are less tested, and one runs a program

MOST_PIXELS = 89_478_485  # 256 MB of RGB; where Pillow begins to warn


class UnreadableImage(Exception):
    """An image from which no aligned face can be read; the message says why."""


def require_libraries(aligns: bool) -> None:
    """Raises InputError unless the libraries to decode images, and if wanted to align them, are installed."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise InputError("images need Pillow; pip install 'fpsset[images]'") from error
    if not aligns:
        return
    try:
        from skimage.transform import SimilarityTransform

        _ = SimilarityTransform.from_estimate
    except (ImportError, AttributeError) as error:
        raise InputError("alignment needs scikit-image; pip install 'fpsset[images]'") from error


def read_face(path: pathlib.Path, landmarks: np.ndarray | None = None) -> np.ndarray:
    """Reads a face from an image file and aligns it.

    Args:
      path: an image file.
      landmarks: [5, 2] pixels (x, y): eyes, nose, corners of the mouth; None if the image is an aligned
        crop already.

    Returns:
      [112, 112, 3] uint8, RGB.

    Raises:
      UnreadableImage: the file is missing or damaged, has another size than an aligned crop and comes
        without landmarks, or its landmarks are degenerate.
    """
    if landmarks is None:
        return np.asarray(open_rgb(path, IMAGE_SIZE))
    return np.asarray(align(open_rgb(path), landmarks))


def decode_crop(encoded: bytes, size: int) -> np.ndarray:
    """Decodes an aligned crop: [size, size, 3] uint8, RGB.

    Raises:
      UnreadableImage: the bytes are not a whole image of that size.
    """
    return np.asarray(open_rgb(io.BytesIO(encoded), size))


def open_rgb(file: str | os.PathLike | BinaryIO, size: int | None = None):
    """Reads an image file as an RGB PIL image; its size is judged by its header, before anything is decoded.

    Args:
      file: a path, or an open file.
      size: pixels per side of an aligned crop; None for an image of any size up to 89 million pixels.

    Raises:
      UnreadableImage: the file is missing or damaged, or of another size.
    """
    with opened(file) as image:
        if size is not None and image.size != (size, size):
            width, height = image.size
            reason = f"{width} x {height} pixels, not an aligned crop of {size}; give landmarks"
            raise UnreadableImage(reason)
        return upright_rgb(image)


@contextlib.contextmanager
def opened(file: str | os.PathLike | BinaryIO, formats: tuple[str, ...] = _FORMATS):
    """Opens an image file as a PIL image while the block runs, in which it is decoded.

    Args:
      file: a path, or an open file.
      formats: names of Pillow's decoders that may read it.

    Raises:
      UnreadableImage: the file is missing, damaged, or has more than 89 million pixels.
    """
    from PIL import Image

    try:
        with Image.open(file, formats=formats) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise UnreadableImage(
                    f"{width} x {height} pixels, more than {MOST_PIXELS:,}; make it smaller"
                )
            yield image
    except (UnreadableImage, MemoryError, GeneratorExit):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(f"more than {MOST_PIXELS:,} pixels; make it smaller") from error
    except Exception as error:  # Pillow's decoders raise many types for damaged files
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a whole image"
        raise UnreadableImage(reason) from error


def upright_rgb(image):
    """An open PIL image as RGB, turned as its EXIF orientation says; inks by their colour profile, if any."""
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode == "CMYK" and upright.info.get("icc_profile"):
        upright = _by_profile(upright)
    if upright.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        grey = np.asarray(upright).astype(np.int64) * 255
        upright = Image.fromarray(((grey + 32767) // 65535).clip(0, 255).astype(np.uint8))
    return upright.convert("RGB")


def _by_profile(image):
    """A CMYK image in sRGB; without its profile, the plain formula of `convert` would be all there is."""
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # a damaged profile, or one of another colour space
        return image


def align(image, landmarks: np.ndarray):
    """Warps a PIL image by the similarity that best maps five landmarks onto `ARCFACE_112`.

    The fit is least squares in the aligned face (Umeyama 1991); interpolation is bilinear, and pixels from
    outside the image are black.

    Args:
      image: PIL image.
      landmarks: [5, 2] pixels (x, y), where (0, 0) is the centre of the first pixel.

    Returns:
      PIL image of 112 x 112.

    Raises:
      UnreadableImage: the landmarks are not finite, or coincide.
    """
    from PIL import Image

    forward = _alignment(landmarks)
    (a, b, c), (d, e, f), _ = forward.inverse.params
    # PIL's origin is the corner of the first pixel, that of the landmarks its centre.
    matrix = (a, b, c + 0.5 - 0.5 * (a + b), d, e, f + 0.5 - 0.5 * (d + e))
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return image.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def places_after_alignment(landmarks: np.ndarray) -> np.ndarray:
    """Where landmarks lie in the aligned face, as shares of its width and height.

    Args:
      landmarks: as of `align`.

    Returns:
      [5, 2] float32 (x, y); `TEMPLATE` if no face can be aligned by them.
    """
    try:
        return (_alignment(landmarks)(landmarks) / IMAGE_SIZE).astype(np.float32)
    except UnreadableImage:
        return TEMPLATE


def mirrored(keypoints: np.ndarray) -> np.ndarray:
    """Where keypoints [A, 5, 2] from `places_after_alignment` lie in the mirror images of the faces."""
    last = np.float32((IMAGE_SIZE - 1) / IMAGE_SIZE)  # the place of the last column
    swapped = keypoints[:, [1, 0, 2, 4, 3]]  # in the mirror, the left eye is where the right one was
    return np.stack([last - swapped[..., 0], swapped[..., 1]], -1)


def _alignment(landmarks: np.ndarray):
    """The similarity that best maps five landmarks onto `ARCFACE_112`."""
    from skimage.transform import SimilarityTransform

    if not np.isfinite(landmarks).all() or np.ptp(landmarks, axis=0).max() < 1:
        raise UnreadableImage("degenerate landmarks")
    forward = SimilarityTransform.from_estimate(landmarks, ARCFACE_112)
    if not forward:
        raise UnreadableImage("degenerate landmarks")
    return forward
