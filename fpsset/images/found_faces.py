"""Faces that were found in photos and frames: where, how sure, how aligned and how embedded."""

import dataclasses
import io
import itertools
import pathlib

import numpy as np

from fpsset.data.columns import checked_columns
from fpsset.data.npz import read_npz, write_npz
from fpsset.images.aligned_faces import ARCFACE_112, align
from fpsset.images.detector import Detections
from fpsset.models.iresnet import IMAGE_SIZE

STILL = -1.0  # the time of what is no frame
_QUALITY = 92
# Columns of a file, see `checked_columns`.
_COLUMNS = {
    **{"item": "iu M", "time": "f M", "boxes": "f M 4", "landmarks": "f M 5 2", "scores": "f M"},
    **{"inside": "f M", "embeddings": "f M D", "norms": "f M", "crops": "iu C", "crop_ends": "iu M"},
}


@dataclasses.dataclass(frozen=True)
class FoundFaces:
    """M faces.

    Attributes:
      item: [M] int64, the photo or video that each is from.
      time: [M] float64 seconds; `STILL` in a photo.
      boxes: [M, 4] float32 pixels: left, top, width, height.
      landmarks: [M, 5, 2] float32 pixels, see `Detections`.
      scores: [M] float32 in [0, 1], of the detector.
      inside: [M] float32 in [0, 1], the share of the aligned face that lies in the image.
      embeddings: [M, D] float16 unit rows.
      norms: [M] float32.
      crops: M aligned faces, as JPEG.
    """

    item: np.ndarray
    time: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    scores: np.ndarray
    inside: np.ndarray
    embeddings: np.ndarray
    norms: np.ndarray
    crops: list[bytes]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: np.ndarray) -> "FoundFaces":
        """Selects faces, by indices or a bool mask."""
        rows = np.arange(len(self))[rows]
        kept = {name: values[rows] for name, values in self._arrays().items()}
        return FoundFaces(**kept, crops=[self.crops[row] for row in rows])

    def image(self, row: int) -> np.ndarray:
        """An aligned face: [112, 112, 3] uint8, RGB."""
        from PIL import Image

        with Image.open(io.BytesIO(self.crops[row]), formats=["JPEG"]) as image:
            return np.asarray(image.convert("RGB"))

    def _arrays(self) -> dict[str, np.ndarray]:
        fields = (field.name for field in dataclasses.fields(self) if field.name != "crops")
        return {name: getattr(self, name) for name in fields}


def join(parts: list[FoundFaces]) -> FoundFaces:
    """All faces of some parts, of which those without a face do not matter."""
    parts = [part for part in parts if len(part)] or parts[:1]
    names = parts[0]._arrays()
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return FoundFaces(**arrays, crops=[crop for part in parts for crop in part.crops])


def no_faces() -> FoundFaces:
    """None at all."""
    return FoundFaces(
        item=np.zeros(0, np.int64),
        time=np.zeros(0),
        boxes=np.zeros((0, 4), np.float32),
        landmarks=np.zeros((0, 5, 2), np.float32),
        scores=np.zeros(0, np.float32),
        inside=np.zeros(0, np.float32),
        embeddings=np.zeros((0, 0), np.float16),
        norms=np.zeros(0, np.float32),
        crops=[],
    )


def columns_of(faces: FoundFaces) -> dict[str, np.ndarray]:
    """The faces as columns of a file."""
    ends = np.cumsum([len(crop) for crop in faces.crops], dtype=np.int64)
    crops = np.frombuffer(b"".join(faces.crops), np.uint8)
    return {**faces._arrays(), "crops": crops, "crop_ends": ends}


def faces_of(columns: dict[str, np.ndarray], name: str) -> FoundFaces:
    """The faces in the columns of a file; raises InputError if they are damaged."""
    held = checked_columns(columns, _COLUMNS, name, "delete it")
    bounds = [0, *held.pop("crop_ends").tolist()]
    crops = held.pop("crops").astype(np.uint8).tobytes()
    return FoundFaces(**held, crops=[crops[a:b] for a, b in itertools.pairwise(bounds)])


def write_part(path: pathlib.Path, faces: FoundFaces, **others: np.ndarray) -> None:
    """Writes faces, and other columns, to a file."""
    write_npz(path, columns_of(faces) | others)


def read_part(path: pathlib.Path, others: dict[str, str]) -> tuple[FoundFaces, dict[str, np.ndarray]]:
    """Reads what `write_part` wrote; raises InputError if it is damaged."""
    columns = read_npz(path)
    return faces_of(columns, str(path)), checked_columns(columns, others, str(path), "delete it")


def aligned_crops(image: np.ndarray, found: Detections) -> tuple[list[np.ndarray], np.ndarray]:
    """The faces of an image, aligned.

    Args:
      image: [H, W, 3] uint8, RGB.
      found: N faces in it.

    Returns:
      (N aligned faces [112, 112, 3] uint8, [N] float32 shares of each that lie in the image).
    """
    from PIL import Image

    crops, inside = [], np.ones(len(found), np.float32)
    for row, landmarks in enumerate(found.landmarks):
        # Only the pixels around the face, because Pillow copies the whole image.
        reach = 3 * max(np.ptp(landmarks[:, 0]), np.ptp(landmarks[:, 1]), 8)
        low = np.maximum(np.floor(landmarks.min(0) - reach), 0).astype(int)
        high = np.minimum(np.ceil(landmarks.max(0) + reach), image.shape[1::-1]).astype(int)
        part = image[low[1] : high[1], low[0] : high[0]]
        if min(part.shape[:2]) < 2:
            crops.append(np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8))
            inside[row] = 0
            continue
        shown = Image.fromarray(np.ascontiguousarray(part))
        crops.append(np.asarray(align(_smoothed(shown, landmarks), landmarks - low)))
        inside[row] = np.asarray(align(Image.new("L", shown.size, 255), landmarks - low)).mean() / 255
    return crops, inside


def _smoothed(image, landmarks: np.ndarray):
    """The image, blurred as far as a large face is reduced, so that fine patterns do not alias."""
    from PIL import ImageFilter

    spread = np.linalg.norm(ARCFACE_112 - ARCFACE_112.mean(0))
    scale = float(np.linalg.norm(landmarks - landmarks.mean(0)) / spread)
    return image.filter(ImageFilter.GaussianBlur(0.4 * scale)) if scale > 1.5 else image


def as_jpeg(crop: np.ndarray) -> bytes:
    """An aligned face as JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
