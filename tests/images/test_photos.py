"""Photos are read as they are meant to be seen, whatever camera, phone or program wrote them."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from fpsset.errors import InputError
from fpsset.images.aligned_faces import UnreadableImage
from fpsset.images.photo_listing import list_sources
from fpsset.images.photos import is_animated, read_frames, read_photo, require_reader
from tests.images.images import picture


@pytest.mark.parametrize("suffix", ["avif", "bmp", "gif", "heic", "jpg", "png", "tif", "webp"])
def test_every_format(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "heic":
        require_reader([path])
    upright = picture(1)
    stored, exif = upright.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6
    turned = suffix not in ("bmp", "gif", "heic")  # HEIC has its own way, and programs must not look at EXIF
    (stored if turned else upright).save(path, exif=exif)
    assert np.abs(read_photo(path).astype(float) - np.asarray(upright)).mean() < 12
    assert not is_animated(path)


def test_cmyk_and_16_bits(tmp_path):
    picture(2).convert("CMYK").save(tmp_path / "ink.jpg", quality=95)
    assert np.abs(read_photo(tmp_path / "ink.jpg").astype(float) - np.asarray(picture(2))).mean() < 12
    # The profile of another colour space than the image's is passed over.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture(2).convert("CMYK").save(tmp_path / "odd.jpg", quality=95, icc_profile=profile)
    assert np.abs(read_photo(tmp_path / "odd.jpg").astype(float) - np.asarray(picture(2))).mean() < 12
    grey = np.linspace(0, 65535, 60 * 50).reshape(50, 60).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.tif")
    np.testing.assert_array_equal(read_photo(tmp_path / "deep.tif")[..., 0], (grey / 257).round())


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_animated_files_are_frames(tmp_path, suffix):
    frames = [picture(seed, 40) for seed in range(4)]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200, lossless=True)
    assert is_animated(path)
    times, found = zip(*read_frames(path), strict=True)
    np.testing.assert_allclose(times, [0, 0.2, 0.4, 0.6])
    limit = 12 if suffix == "gif" else 0.5
    for one, frame in zip(found, frames, strict=True):
        assert np.abs(one.astype(float) - np.asarray(frame)).mean() <= limit


def test_damaged_photos(tmp_path):
    picture(0).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-300])
    (tmp_path / "text.heic").write_text("no image")
    for name in ("cut.jpg", "text.heic", "none.png"):
        with pytest.raises(UnreadableImage):
            read_photo(tmp_path / name)
        assert not is_animated(tmp_path / name)


def test_sources_tell_people_by_folders(tmp_path):
    for name in ("anna/1.jpg", "anna/2020/2.JPG", "ben/3.png", "4.jpg", ".hidden/5.jpg", "anna/note.txt"):
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(0, 20).save(tmp_path / "all" / name, format="PNG") if name[-3:] != "txt" else (
            tmp_path / "all" / name
        ).write_text("")
    (tmp_path / "b.mp4").touch()
    found = list_sources([tmp_path / "all", tmp_path / "b.mp4", tmp_path / "all/4.jpg"])
    assert [(one.path.name, one.person, one.moves) for one in found.items] == [
        ("4.jpg", None, False),
        ("1.jpg", "anna", False),
        ("2.JPG", "anna", False),
        ("3.png", "ben", False),
        ("b.mp4", None, True),
    ]
    assert found.people == ("anna", "ben") and "1 .txt" in found.said_ignored()
    assert {one.person for one in list_sources([tmp_path / "all"], "anna").items} == {"anna"}


def test_sources_that_are_none(tmp_path):
    (tmp_path / "a.txt").touch()
    (tmp_path / "empty").mkdir()
    for name, problem in (("a.txt", "suffix"), ("empty", "no photos"), ("none", "no such")):
        with pytest.raises(InputError, match=problem):
            list_sources([tmp_path / name])
