"""Reads frames of videos at a stated rate, upright, and tells where the scene changes."""

import math
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fpsset.errors import InputError, first_line
from fpsset.images.aligned_faces import UnreadableImage

# FFmpeg's score in [0, 1] from which a frame begins a scene. Its manual advises 0.3 to 0.5; here a cut too
# many costs little, since looks tell which tracks are of one person, and one too few may cost more.
_SCENE_SCORE = 0.2
_SCENE_WIDTH = 320  # pixels, to which frames are reduced for that
_BEFORE_SECONDS = 1.0  # decoded before the start, for what depends on earlier frames
_SLACK = 1e-6


class Frame(NamedTuple):
    """A sampled frame.

    Attributes:
      time: seconds from the start of the video.
      image: [H, W, 3] uint8, RGB, upright.
      begins_scene: whether the scene has changed since the sampled frame before.
    """

    time: float
    image: np.ndarray
    begins_scene: bool


def require_pyav(path: pathlib.Path) -> None:
    """Raises InputError unless videos can be read."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise InputError(f"{path}: needs PyAV; pip install 'fpsset[video]'") from error


def duration_of(path: pathlib.Path) -> float | None:
    """Seconds; None if the file does not say, or cannot be read."""
    try:
        with _opened(path) as container:
            stream = container.streams.video[0]
            if stream.duration and stream.time_base:
                return float(stream.duration * stream.time_base)
            return container.duration / 1e6 if container.duration else None
    except UnreadableImage:
        return None


def read_video(path: pathlib.Path, rate: float, start: float = 0.0) -> Iterator[Frame]:
    """Yields frames, of which memory holds one at a time: the first at or after each 1 / rate seconds.

    Frames that are damaged are passed over, as players do.

    Args:
      path: any file that FFmpeg reads; what it refers to elsewhere than on this machine is not opened.
      rate: frames a second.
      start: seconds from the start of the video.

    Raises:
      UnreadableImage: the file is missing, or no frame of it can be read.
    """
    import av

    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        origin = float((stream.start_time or 0) * stream.time_base)
        if start > 0:
            _seek(container, stream, max(0.0, start - _BEFORE_SECONDS) + origin)
        scenes = _Scenes(stream)
        tick, seen, changed = math.ceil(start * rate - _SLACK), False, False
        for frame in _decoded(container, stream, av.error.FFmpegError):
            seen = True
            time = max(0.0, (frame.time if frame.time is not None else 0.0) - origin)
            changed |= scenes.begins(frame)
            if time < tick / rate - _SLACK:
                if time < start - _SLACK:
                    changed = False  # told with the frames before the start
                continue
            tick = math.floor(time * rate + _SLACK) + 1
            image = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
            yield Frame(time, np.ascontiguousarray(image), changed)
            changed = False
        if not seen and start == 0:
            raise UnreadableImage("no frame can be decoded")


class _Scenes:
    """FFmpeg's score of how much a frame differs from the one before it."""

    def __init__(self, stream):
        self._stream, self._graph, self._form = stream, None, None

    def begins(self, frame) -> bool:
        import av

        form = (frame.width, frame.height, frame.format.name)
        if form != self._form:  # at the start, and where the size changes
            self._graph, self._form = self._made(frame), form
        self._graph.push(frame)
        found = False
        while True:
            try:
                self._graph.pull()
                found = True
            except (BlockingIOError, av.error.EOFError):
                return found

    def _made(self, frame):
        import av

        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=self._stream.time_base,
        )
        last = source
        for name, options in (
            ("scale", f"{_SCENE_WIDTH}:-2"),
            ("select", f"gt(scene,{_SCENE_SCORE})"),
            ("buffersink", None),
        ):
            following = graph.add(name, options)
            last.link_to(following)
            last = following
        graph.configure()
        return graph


def _decoded(container, stream, failure) -> Iterator:
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, failure):  # the end, or a file that was cut off
            return
        try:
            yield from packet.decode()
        except failure:
            continue


def _seek(container, stream, seconds: float) -> None:
    import av

    try:
        container.seek(int(seconds / stream.time_base), stream=stream, backward=True)
    except av.error.FFmpegError:  # cannot be sought in: what comes before is decoded
        container.seek(0)


def _opened(path: pathlib.Path):
    import av

    try:
        # Playlists may name files anywhere; those on other machines are not fetched.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UnreadableImage(getattr(error, "strerror", None) or first_line(error)) from error
    if not container.streams.video:
        container.close()
        raise UnreadableImage("has no video")
    return container
