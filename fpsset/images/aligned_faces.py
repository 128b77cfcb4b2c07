"""One image file to one aligned face."""

import pathlib

import numpy as np

from fpsset.errors import InputError
from fpsset.images.image_files import UnreadableImage, open_rgb, require_crop, require_pillow
from fpsset.models.iresnet import IMAGE_SIZE

# Where eyes, nose and corners of the mouth lie in an aligned face of 112 x 112 pixels (x, y).
ARCFACE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def require_libraries(aligns: bool) -> None:
    """Raises InputError unless images can be read, and aligned where that is wanted."""
    require_pillow()
    if not aligns:
        return
    try:
        from skimage.transform import SimilarityTransform

        _ = SimilarityTransform.from_estimate
    except (ImportError, AttributeError) as error:
        raise InputError("alignment needs scikit-image; pip install 'fpsset[images]'") from error


def read_face(path: pathlib.Path, landmarks: np.ndarray | None = None) -> np.ndarray:
    """Reads and aligns a face.

    Args:
      path: an image file.
      landmarks: [5, 2] pixels (x, y) in it: eyes, nose, corners of the mouth; None when the image is an
        aligned crop, which is taken as it is.

    Returns:
      [112, 112, 3] uint8, RGB.

    Raises:
      UnreadableImage: the file is missing or damaged, is no aligned crop and comes without landmarks,
        or its landmarks are no face's.
    """
    image = open_rgb(path)
    return require_crop(image, IMAGE_SIZE) if landmarks is None else np.asarray(align(image, landmarks))


def align(image, landmarks: np.ndarray):
    """Moves, turns and scales a PIL image so that five landmarks come to lie as in `ARCFACE_112`.

    The similarity is the least-squares one in the aligned face (Umeyama 1991); pixels are interpolated
    bilinearly, and what lies outside is black.

    Args:
      image: PIL image.
      landmarks: [5, 2] pixels (x, y), the centre of the first pixel being (0, 0).

    Returns:
      PIL image of 112 x 112.

    Raises:
      UnreadableImage: the landmarks are not finite, or lie in one point.
    """
    from PIL import Image
    from skimage.transform import SimilarityTransform

    if not np.isfinite(landmarks).all() or np.ptp(landmarks, axis=0).max() < 1:
        raise UnreadableImage("landmarks that are no face's")
    forward = SimilarityTransform.from_estimate(landmarks, ARCFACE_112)
    if not forward:
        raise UnreadableImage("landmarks that are no face's")
    (a, b, c), (d, e, f), _ = forward.inverse.params
    # PIL counts from the corner of the first pixel, landmarks from its centre.
    matrix = (a, b, c + 0.5 - 0.5 * (a + b), d, e, f + 0.5 - 0.5 * (d + e))
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return image.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
