"""Reads photos as cameras and phones make them: upright, in RGB, and animated ones frame by frame."""

import pathlib
from collections.abc import Iterator

import numpy as np

from fpsset.errors import InputError
from fpsset.images.aligned_faces import UnreadableImage, opened, upright_rgb

PHOTO_SUFFIXES = frozenset(
    (
        *(".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
        *(".png", ".tif", ".tiff", ".webp"),
    )
)
_HEIF = frozenset((".heic", ".heif", ".hif"))
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
_ANIMATED = ("AVIF", "GIF", "PNG", "WEBP")  # the further images of other formats are pages or depths
_FRAME_SECONDS = 0.1  # of a frame that does not say how long it is shown


def is_photo(path: pathlib.PurePath) -> bool:
    """Whether a file's suffix is that of a photo."""
    return path.suffix.lower() in PHOTO_SUFFIXES


def require_reader(paths: list[pathlib.Path]) -> None:
    """Raises InputError if a photo among the paths needs a library that is not installed."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise InputError("photos need Pillow; pip install 'fpsset[photos]'") from error
    heif = next((path for path in paths if path.suffix.lower() in _HEIF), None)
    if heif is None:
        return
    try:
        import pillow_heif
    except ImportError as error:
        raise InputError(f"{heif}: needs pillow-heif; pip install 'fpsset[heif]'") from error
    pillow_heif.register_heif_opener()


def is_animated(path: pathlib.Path) -> bool:
    """Whether a photo has several frames; False for a file that cannot be read."""
    if path.suffix.lower() in (".jpg", ".jpeg"):  # most photos; not worth opening twice
        return False
    try:
        with _opened(path) as image:
            return image.format in _ANIMATED and getattr(image, "n_frames", 1) > 1
    except UnreadableImage:  # reading it will say so
        return False


def photo_size(path: pathlib.Path) -> tuple[int, int]:
    """Width and height in pixels, by the header, before it is turned upright.

    Raises:
      UnreadableImage: see `read_photo`.
    """
    with _opened(path) as image:
        return image.size


def read_photo(path: pathlib.Path) -> np.ndarray:
    """Reads a photo, of which the first frame if it has several.

    Returns:
      [H, W, 3] uint8, RGB, upright.

    Raises:
      UnreadableImage: the file is missing, damaged, too large, or no photo.
    """
    return next(read_frames(path))[1]


def read_frames(path: pathlib.Path) -> Iterator[tuple[float, np.ndarray]]:
    """Yields (seconds from the start, [H, W, 3] uint8 RGB) for each frame of a photo, one if it is still.

    Raises:
      UnreadableImage: the file is missing, damaged, too large, or no photo; during iteration.
    """
    with _opened(path) as image:
        frames = getattr(image, "n_frames", 1) if image.format in _ANIMATED else 1
        seconds = 0.0
        for number in range(frames):
            image.seek(number)
            yield seconds, np.asarray(upright_rgb(image))
            seconds += image.info.get("duration", 0) / 1000 or _FRAME_SECONDS


def _opened(path: pathlib.Path):
    return opened(path, tuple(name for name in _FORMATS if name in _known()))


def _known() -> dict:
    """The formats that Pillow can open here."""
    from PIL import Image

    Image.init()
    return Image.OPEN
