"""Faces are found where they were pasted, at any size and in any photo, and nothing else is."""

import numpy as np
import pytest

from fpsset.errors import InputError
from fpsset.images.detector import FaceDetector
from fpsset.images.found_faces import aligned_crops
from tests.images.photos import YUNET, photo

PLACED = [
    ("person_00/still_0.png", (120, 120), 64, 0),
    ("person_03/still_1.png", (440, 300), 240, 25),
    ("person_05/still_0.png", (180, 360), 110, -30),
]


@pytest.fixture(scope="module")
def detector(shared):
    return FaceDetector(shared / YUNET)


def test_faces_are_found_where_they_are(shared, detector):
    image, marks = photo(shared / "faces", PLACED)
    found = detector(np.asarray(image))
    assert len(found) == 3 and (np.diff(found.scores) <= 0).all()
    for (_, centre, size, _), mark in zip(PLACED, marks, strict=True):
        off = np.linalg.norm(found.landmarks - mark, axis=2).mean(1) / size
        nearest = int(off.argmin())
        assert off[nearest] < 0.12
        left, top, width, height = found.boxes[nearest]
        assert left < centre[0] < left + width and top < centre[1] < top + height
    crops, inside = aligned_crops(np.asarray(image), found)
    assert [crop.shape for crop in crops] == [(112, 112, 3)] * 3 and (inside > 0.99).all()


@pytest.mark.parametrize("factor", [0.5, 4, 6.3])
def test_a_face_is_found_at_every_size_of_photo(shared, detector, factor):
    """The face is from 55 to 690 pixels, in photos of up to 4,000."""
    image, marks = photo(shared / "faces", PLACED[2:])
    large = image.resize((round(640 * factor), round(480 * factor)))
    found = detector(np.asarray(large))
    assert len(found) == 1
    off = np.linalg.norm(found.landmarks[0] - ((marks[0] + 0.5) * factor - 0.5), axis=1).mean()
    assert off < 0.12 * 110 * factor


def test_a_face_that_is_cut_off_says_so(shared, detector):
    image, _ = photo(shared / "faces", PLACED[1:2])
    cut = np.asarray(image)[:, 400:]
    found = detector(cut)
    assert len(found) == 1
    assert aligned_crops(cut, found)[1][0] < 0.9


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (40, 30), (480, 640)])
def test_no_face_is_found_where_there_is_none(detector, shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for image in (noise, np.zeros_like(noise)):
        assert detector(image).landmarks.shape == (0, 5, 2)


def test_files_that_are_no_detector(shared, tmp_path):
    (tmp_path / "text.onnx").write_text("no network")
    for path in (tmp_path / "text.onnx", shared / "models/mobilefacenet_512.onnx", tmp_path / "none.onnx"):
        with pytest.raises(InputError, match=path.name):
            FaceDetector(path)
