"""Faces are aligned by the least-squares similarity, and unreadable images are refused."""

import numpy as np
import pytest
from PIL import Image

from fpsset.images.aligned_faces import ARCFACE_112, UnreadableImage, read_face
from tests.images.images import picture


@pytest.mark.parametrize(
    "degrees, scale, shift", [(0, 1, (0, 0)), (25, 1.7, (120, 30)), (-60, 2.5, (10, 260))]
)
def test_alignment_undoes_a_similarity(tmp_path, degrees, scale, shift):
    """A face that was rotated, scaled and moved is restored."""
    face = picture(1)
    angle = np.deg2rad(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = ARCFACE_112 @ turn.T + shift
    back = np.linalg.inv(turn)
    offset = -back @ shift
    # Where the pixel centres (x, y) of the large image are in the face.
    y, x = np.mgrid[:420, :420].astype(float)
    source = np.stack([x, y], -1) @ back.T + offset
    low = np.clip(np.floor(source).astype(int), 0, 110)
    part = np.clip(source - low, 0, 1)[..., None]
    pixels = np.asarray(face, float)

    def at(dy, dx):
        return pixels[low[..., 1] + dy, low[..., 0] + dx]

    top = at(0, 0) * (1 - part[..., 0, :]) + at(0, 1) * part[..., 0, :]
    bottom = at(1, 0) * (1 - part[..., 0, :]) + at(1, 1) * part[..., 0, :]
    large = top * (1 - part[..., 1, :]) + bottom * part[..., 1, :]
    Image.fromarray(large.round().astype(np.uint8)).save(tmp_path / "large.png")
    aligned = read_face(tmp_path / "large.png", landmarks)
    inner = slice(12, 100)
    error = np.abs(aligned[inner, inner].astype(float) - pixels[inner, inner])
    assert error.mean() < 1.0 and error.max() < 8


def test_alignment_is_the_least_squares_fit_in_the_aligned_face(tmp_path):
    """Landmarks like those of a profile, which no similarity fits exactly, against least squares by hand."""
    marks = ARCFACE_112 * [0.4, 1.0] + [40, 20] + np.random.default_rng(0).normal(0, 3, (5, 2))
    x, y = marks.T
    ones, zeros = np.ones(5), np.zeros(5)
    system = np.concatenate([np.stack([x, -y, ones, zeros], 1), np.stack([y, x, zeros, ones], 1)])
    a, b, dx, dy = np.linalg.lstsq(system, ARCFACE_112.T.ravel(), rcond=None)[0]
    back = np.linalg.inv([[a, -b], [b, a]])
    # Each pixel's colour is its position, so the aligned face shows where its pixels came from.
    across, down = np.meshgrid(np.arange(200), np.arange(200))
    Image.fromarray(np.stack([across, down, 0 * down], -1).astype(np.uint8)).save(tmp_path / "ramp.png")
    aligned = read_face(tmp_path / "ramp.png", marks)
    places = np.stack(np.meshgrid(np.arange(112), np.arange(112)), -1)
    source = (places - [dx, dy]) @ back.T
    inside = ((source > 1) & (source < 198)).all(-1)
    assert inside.mean() > 0.4
    assert np.abs(aligned[..., :2] - source)[inside].max() < 1.01


def test_an_unreadable_face_is_refused_with_the_reason(tmp_path):
    picture(0).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-400])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 112 112\n")
    picture(0, 90).save(tmp_path / "small.png")
    Image.new("L", (112, 112), 7).save(tmp_path / "grey.png")
    assert read_face(tmp_path / "grey.png").shape == (112, 112, 3)
    for name, marks, problem in [
        ("cut.jpg", None, "not a whole image"),
        ("text.png", None, "not a whole image"),
        ("script.png", None, "not a whole image"),  # Pillow would run a program to decode it
        ("none.png", None, "No such file"),
        ("small.png", None, "90 x 90 pixels"),
        ("small.png", np.full((5, 2), np.nan), "landmarks"),
        ("small.png", np.ones((5, 2)), "landmarks"),
    ]:
        with pytest.raises(UnreadableImage, match=problem):
            read_face(tmp_path / name, marks)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_the_orientation_in_exif_is_followed(tmp_path, orientation, form):
    upright = picture(1)
    turn = {
        **{2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"},
        **{7: "TRANSVERSE", 8: "ROTATE_270"},
    }.get(orientation)
    stored = upright.transpose(Image.Transpose[turn]) if turn else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{form}", exif=exif, quality=95)
    found = read_face(tmp_path / f"a.{form}").astype(float)
    assert np.abs(found - np.asarray(upright)).mean() < 12
    landmarks = read_face(tmp_path / f"a.{form}", ARCFACE_112).astype(float)
    assert np.abs(landmarks - found).mean() < 1


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_16_bit_grey_keeps_its_shades(tmp_path, mode):
    grey = np.linspace(0, 65535, 112 * 112).reshape(112, 112).round()
    pixels = grey.astype({"I;16": "<u2", "I;16B": ">u2"}[mode])
    Image.frombytes(mode, (112, 112), pixels.tobytes()).save(tmp_path / "a.png")
    found = read_face(tmp_path / "a.png")
    np.testing.assert_array_equal(found, np.repeat((grey / 257).round()[..., None], 3, axis=-1))
