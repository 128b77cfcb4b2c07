"""How sharp an aligned face is."""

import numpy as np

_FACE = slice(16, 96)  # of an aligned face, without what is around it
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue in grey


def sharpness(image: np.ndarray) -> float:
    """Second differences of an aligned face's grey values, relative to first ones: they vanish first by blur.

    Args:
      image: [112, 112, 3] uint8, RGB.

    Returns:
      About .5 to .8 for a sharp face, less than .42 for one that was blurred by more than 1.5 pixels; 0 for
      an image without any edge.
    """
    grey = image[_FACE, _FACE].astype(np.float32) @ _WEIGHTS
    first = np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.abs(4 * middle - around).mean() / max(first, 1e-6))
