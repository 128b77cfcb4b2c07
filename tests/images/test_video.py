"""Videos are read upright, at the stated rate, from any moment, and as far as they go if they are damaged."""

import struct

import numpy as np
import pytest

from fpsset.images.aligned_faces import UnreadableImage
from fpsset.images.video import duration_of, read_video
from tests.images.photos import write_video


def clock(number: int, scene: int = 0) -> np.ndarray:
    """A frame of 96 x 128 that tells its number: that many eighths of it are bright, from the left."""
    frame = np.full((96, 128, 3), (40, 90)[scene], np.uint8)
    frame[:, : 4 * number] = (230, 140)[scene]
    frame[:20] = (0, 255)[scene]
    return frame


def told(image: np.ndarray) -> int:
    row = image[60, :, 0].astype(int)
    return round(int((row > (row.max() + row.min()) / 2).sum()) / 4) if np.ptp(row) > 60 else 0


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Thirty frames at ten a second; the scene changes with frame 20."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_video(path, [clock(number, int(number >= 20)) for number in range(30)])
    return path


def test_every_container(tmp_path):
    frames = [clock(number) for number in range(10)]
    for suffix, codec in (
        ("avi", "mpeg4"),
        ("mkv", "mpeg4"),
        ("mov", "mpeg4"),
        ("mpg", "mpeg2video"),
        ("webm", "vp8"),
    ):
        path = tmp_path / f"a.{suffix}"
        rate = 25 if suffix == "mpg" else 10  # MPEG allows few
        write_video(path, frames, rate, codec)
        found = list(read_video(path, 1000))
        assert len(found) >= 9 and found[0].image.shape == (96, 128, 3)
        np.testing.assert_allclose(np.diff([frame.time for frame in found]), 1 / rate, atol=2e-3)


def test_the_rate_and_the_scenes(film):
    assert duration_of(film) == pytest.approx(3.0, abs=0.05)
    frames = list(read_video(film, 5))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(15) / 5, atol=1e-3)
    assert [told(frame.image) for frame in frames[1:10]] == list(range(2, 20, 2))
    assert [frame.begins_scene for frame in frames] == [i == 10 for i in range(15)]
    assert [round(frame.time, 1) for frame in read_video(film, 0.7)] == [0.0, 1.5, 2.9]


@pytest.mark.parametrize("start", [0.4, 1.0, 1.9, 2.0, 2.1, 5.0])
def test_a_later_start_gives_the_same_frames(film, start):
    whole = [frame for frame in read_video(film, 5) if frame.time >= start - 1e-6]
    found = list(read_video(film, 5, start))
    assert [frame.time for frame in found] == [frame.time for frame in whole]
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
    assert [frame.begins_scene for frame in found] == [frame.begins_scene for frame in whole]


def test_a_video_taken_upright_is_upright(film, tmp_path):
    """Phones turn the picture by a matrix in the track's header."""
    content = film.read_bytes()
    matrix = content.index(b"tkhd") + 44
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)  # clockwise
    (tmp_path / "turned.mp4").write_bytes(content[:matrix] + turned + content[matrix + 36 :])
    plain, found = (next(read_video(path, 5)).image for path in (film, tmp_path / "turned.mp4"))
    np.testing.assert_array_equal(found, np.rot90(plain, -1))


def test_damaged_videos(film, tmp_path):
    content = film.read_bytes()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    for name in ("text.mp4", "cut.mp4", "list.mp4", "none.mp4"):
        with pytest.raises(UnreadableImage):
            list(read_video(tmp_path / name, 5))
        assert duration_of(tmp_path / name) is None
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 256, (20, 96, 128, 3), dtype=np.uint8))
    write_video(tmp_path / "whole.mkv", frames)
    content = bytearray((tmp_path / "whole.mkv").read_bytes())
    (tmp_path / "torn.mkv").write_bytes(content[: len(content) * 2 // 3])
    assert 0 < len(list(read_video(tmp_path / "torn.mkv", 10))) < 20
