"""Finds faces and their landmarks in photos of any size, by YuNet in OpenCV."""

import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.errors import InputError, first_line

# YuNet finds faces of about 10 to 300 pixels, so a large photo is looked at in two sizes.
_LONG_SIDES = (1600, 320)
_CANDIDATE_SCORE, _OVERLAP = 0.3, 0.3
# Each candidate is looked at again, enlarged or reduced so that its box has this many pixels: that makes the
# landmarks of small and of huge faces as exact as those of others, and tells patterns from faces.
_SECOND_LOOK, _MARGIN = 96, 0.75  # the margin on each side, in sides of the box
_MOST_CANDIDATES = 500


class Detections(NamedTuple):
    """N faces in an image, best first.

    Attributes:
      boxes: [N, 4] float32 pixels: left, top, width, height; they may reach beyond the image.
      landmarks: [N, 5, 2] float64 pixels (x, y), where (0, 0) is the centre of the first pixel: eyes, nose,
        corners of the mouth, those on the left of the image first.
      scores: [N] float32 in [0, 1].
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows) -> "Detections":
        """Selects faces, by indices or a bool mask."""
        return Detections(*(values[rows] for values in self))


class FaceDetector:
    """YuNet (Wu et al., 2023), run by OpenCV's `FaceDetectorYN`; for one thread at a time.

    Example:
      >>> detector = FaceDetector(pathlib.Path("yunet.onnx"))  # doctest: +SKIP
      >>> detector(np.zeros((480, 640, 3), np.uint8)).boxes.shape  # doctest: +SKIP
      (0, 4)
    """

    def __init__(self, path: pathlib.Path, least_score: float = 0.8):
        """Loads a detector.

        Args:
          path: an ONNX file of YuNet for any size of image, as `fpsset fetch yunet` gets it.
          least_score: of a face, in [0, 1].

        Raises:
          InputError: OpenCV is not installed, or the file is no YuNet.
        """
        cv2 = import_opencv()
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; give --detector a YuNet .onnx, or run: fpsset fetch yunet"
            )
        self._cv2, self._least = cv2, least_score
        try:
            self._net = cv2.FaceDetectorYN.create(
                str(path), "", (64, 64), _CANDIDATE_SCORE, _OVERLAP, _MOST_CANDIDATES
            )
            self._find(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            raise InputError(
                f"{path}: is no YuNet face detector that OpenCV can run ({first_line(error)}); "
                "get one by: fpsset fetch yunet"
            ) from error

    def __call__(self, image: np.ndarray) -> Detections:
        """Finds the faces in an image.

        Args:
          image: [H, W, 3] uint8, RGB, upright.
        """
        image = np.ascontiguousarray(image)
        long = max(image.shape[:2])
        found = []
        for side in _LONG_SIDES:
            factor = min(1.0, side / long)
            if not found or factor < 1:
                found.append(self._scaled(image, factor))
        candidates = self._without_doubles(np.concatenate(found))
        seen = [again for row in candidates if (again := self._second_look(image, row)) is not None]
        return _as_detections(self._without_doubles(np.array(seen, np.float32).reshape(-1, 15)))

    def _find(self, image: np.ndarray) -> np.ndarray:
        """[N, 15]: box, five landmarks and score of each face, in OpenCV's order."""
        self._net.setInputSize((image.shape[1], image.shape[0]))
        rows = self._net.detect(self._cv2.cvtColor(image, self._cv2.COLOR_RGB2BGR))[1]
        return np.zeros((0, 15), np.float32) if rows is None else rows[np.isfinite(rows).all(1)]

    def _scaled(self, image: np.ndarray, factor: float) -> np.ndarray:
        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
        small = self._resized(image, width, height)
        rows = self._find(small)
        scale = np.array([image.shape[1] / width, image.shape[0] / height] * 7 + [1], np.float32)
        return rows * scale

    def _second_look(self, image: np.ndarray, row: np.ndarray) -> np.ndarray | None:
        """The candidate, seen at a size that suits the detector; None if it is no face then."""
        left, top, width, height = row[:4]
        side = max(width, height)
        if not side >= 1:
            return None
        reach = side * (0.5 + _MARGIN)
        centre = np.array([left + width / 2, top + height / 2])
        low = np.floor(centre - reach).astype(int)
        high = np.ceil(centre + reach).astype(int)
        start, end = np.maximum(low, 0), np.minimum(high, image.shape[1::-1])
        if (end - start < 2).any():
            return None
        part = image[start[1] : end[1], start[0] : end[0]]
        part = self._cv2.copyMakeBorder(
            np.ascontiguousarray(part),
            *(start[1] - low[1], high[1] - end[1], start[0] - low[0], high[0] - end[0]),
            self._cv2.BORDER_CONSTANT,
        )
        scaled = self._scaled(part, _SECOND_LOOK / side)
        scaled[:, :2] += low
        scaled[:, 4:14] += np.tile(low, 5)
        overlaps = overlap(row[:4], scaled[:, :4])
        if overlaps.max(initial=0) < _OVERLAP:
            return None
        best = scaled[overlaps.argmax()]
        return best if best[14] >= self._least else None

    def _resized(self, image: np.ndarray, width: int, height: int) -> np.ndarray:
        if (height, width) == image.shape[:2]:
            return image
        shrinks = width < image.shape[1]
        how = self._cv2.INTER_AREA if shrinks else self._cv2.INTER_LINEAR
        return self._cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=how)

    def _without_doubles(self, rows: np.ndarray) -> np.ndarray:
        """One row for each face, the best first; each row is [15], see `_find`."""
        kept: list[np.ndarray] = []
        for row in rows[np.argsort(-rows[:, 14], kind="stable")]:
            if overlap(row[:4], np.reshape(kept, (-1, 15))[:, :4]).max(initial=0) < _OVERLAP:
                kept.append(row)
        return np.array(kept, np.float32).reshape(-1, 15)


def import_opencv():
    """OpenCV, without what it prints about itself; raises InputError if it is not there."""
    try:
        import cv2

        cv2.FaceDetectorYN  # noqa: B018
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"finding faces needs OpenCV ({first_line(error)}); pip install 'fpsset[photos]'"
        ) from error
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    return cv2


def _as_detections(rows: np.ndarray) -> Detections:
    # YuNet's coordinates have their origin at the corner of the first pixel, alignment's at its centre.
    return Detections(rows[:, :4], rows[:, 4:14].reshape(-1, 5, 2).astype(np.float64) - 0.5, rows[:, 14])


def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [*B, 4] (left, top, width, height), broadcast: [*B]."""
    low = np.maximum(one[..., :2], other[..., :2])
    high = np.minimum(one[..., :2] + one[..., 2:], other[..., :2] + other[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    area = np.prod(one[..., 2:], axis=-1) + np.prod(other[..., 2:], axis=-1)
    return shared / np.maximum(area - shared, 1e-9)
