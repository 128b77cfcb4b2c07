"""Finds and embeds the faces of photos and videos, in parts that outlast an interruption."""

import collections
import dataclasses
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from fpsset.images.aligned_faces import ARCFACE_112, UnreadableImage
from fpsset.images.detector import Detections, FaceDetector
from fpsset.images.found_faces import STILL, FoundFaces, aligned_crops, as_jpeg, join, no_faces
from fpsset.images.photo_listing import Item
from fpsset.images.photos import read_frames, read_photo
from fpsset.images.recognisers import NOT_EMBEDDED, Recogniser, embedded
from fpsset.images.video import read_video
from fpsset.models.iresnet import IMAGE_SIZE

_QUEUE = 2  # images decoded ahead of each thread


@dataclasses.dataclass(frozen=True)
class FindingOptions:
    """How faces are found.

    Attributes:
      detector: a file of YuNet; None where all images are aligned crops.
      least_side: pixels of the shorter side of a face's box, below which it is left out and counted.
      rate: frames a second of videos.
      batch_size: faces embedded at once.
      threads: that decode and detect.
    """

    detector: pathlib.Path | None
    least_side: int = 32
    rate: float = 5.0
    batch_size: int = 32
    threads: int = 2


class Stretch(NamedTuple):
    """Some photos, or some seconds of a video.

    Attributes:
      items: numbers of the photos, or of the one that moves.
      start: seconds.
      end: seconds; infinite for the last.
    """

    items: range
    start: float = 0.0
    end: float = np.inf


class Seen(NamedTuple):
    """What is in a stretch.

    Attributes:
      faces: all that are large enough.
      small: (item, how many faces are too small) where there are any.
      bad: (item, why it cannot be read, or a face of it not be embedded).
      frames: (item, seconds, 1 if it begins a scene) of every frame, of videos.
    """

    faces: FoundFaces
    small: list[tuple[int, int]]
    bad: list[tuple[int, str]]
    frames: list[tuple[int, float, int]]


class Finder:
    """Finds and embeds faces; use as a context manager, which ends its threads."""

    def __init__(self, items: tuple[Item, ...], recogniser: Recogniser, options: FindingOptions):
        """See `FindingOptions`; raises InputError if the detector cannot be loaded."""
        self._items, self._recogniser, self._options = items, recogniser, options
        self._own = threading.local()
        self._own.detector = None if options.detector is None else FaceDetector(options.detector)
        self._pool = ThreadPoolExecutor(options.threads, "faces")
        self._video: tuple[int, float, Iterator] | None = None  # item, where it is, its frames

    def __enter__(self) -> "Finder":
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def see(self, stretch: Stretch, advance: Callable[[int], None]) -> Seen:
        """Looks at a stretch; `advance` is told how many images have been looked at since the last time."""
        batches = _Batches(self._recogniser, self._options.batch_size)
        small, bad, frames = collections.Counter(), [], []
        for item, time, begins, found in self._in_order(self._jobs(stretch, bad)):
            advance(1)
            if time != STILL:
                frames.append((item, time, int(begins)))
            if isinstance(found, str):
                bad.append((item, found))
                continue
            kept, crops, inside, too_small = found
            if too_small:
                small[item] += too_small
            batches.add(item, time, kept, crops, inside)
        faces, failed = batches.finish()
        bad += [(int(item), NOT_EMBEDDED) for item in failed]
        return Seen(faces, sorted(small.items()), bad, frames)

    def _jobs(self, stretch: Stretch, bad: list) -> Iterator[tuple]:
        """(item, time, whether a scene begins, a function that gives the image) of each image."""
        item = self._items[stretch.items[0]]
        if not item.moves:
            for number in stretch.items:
                yield number, STILL, False, lambda path=self._items[number].path: read_photo(path)
            return
        number = stretch.items[0]
        try:
            for time, image, begins in self._moving(number, item, stretch):
                yield number, time, begins, lambda image=image: image
        except UnreadableImage as error:
            bad.append((number, str(error)))

    def _moving(self, number: int, item: Item, stretch: Stretch) -> Iterator[tuple]:
        if not item.is_video:
            yield from _thinned(read_frames(item.path), self._options.rate)
            return
        kept = self._video
        if kept and kept[:2] == (number, stretch.start):  # the decoder stands where the stretch begins
            frames = kept[2]
        else:
            frames = read_video(item.path, self._options.rate, stretch.start)
        self._video = None
        for frame in frames:
            if frame.time >= stretch.end:
                rest = _chained(frame, frames)
                self._video = (number, stretch.end, rest)
                return
            yield frame

    def _in_order(self, jobs: Iterable[tuple]) -> Iterator[tuple]:
        """(item, time, whether a scene begins, what was found) of each job, in their order."""
        waiting: collections.deque[tuple] = collections.deque()

        def first() -> tuple:
            item, time, begins, future = waiting.popleft()
            return item, time, begins, future.result()

        try:
            for item, time, begins, load in jobs:
                future: Future = self._pool.submit(self._look, load)
                waiting.append((item, time, begins, future))
                if len(waiting) >= _QUEUE * self._options.threads:
                    yield first()
            while waiting:
                yield first()
        finally:
            for *_, future in waiting:
                future.cancel()

    def _look(self, load: Callable[[], np.ndarray]):
        """(detections, crops, shares inside, how many are too small), or why the image cannot be read."""
        try:
            return self._faces_in(load())
        except UnreadableImage as error:
            return str(error)

    def _faces_in(self, image: np.ndarray):
        if image.shape[:2] == (IMAGE_SIZE, IMAGE_SIZE):
            return (*_whole(image), 0)
        if self._options.detector is None:
            size = f"{image.shape[1]} x {image.shape[0]} pixels"
            raise UnreadableImage(f"{size}, not an aligned crop, and there is no detector")
        if getattr(self._own, "detector", None) is None:
            self._own.detector = FaceDetector(self._options.detector)
        found = self._own.detector(image)
        large = found.boxes[:, 2:].min(axis=1, initial=np.inf) >= self._options.least_side
        kept = found.take(large)
        return (kept, *aligned_crops(image, kept), int((~large).sum()))


def _whole(image: np.ndarray) -> tuple[Detections, list[np.ndarray], np.ndarray]:
    """An image that is an aligned crop already."""
    box = np.array([[0, 0, IMAGE_SIZE, IMAGE_SIZE]], np.float32)
    return Detections(box, ARCFACE_112[None], np.ones(1, np.float32)), [image], np.ones(1, np.float32)


def _thinned(frames: Iterable[tuple[float, np.ndarray]], rate: float) -> Iterator[tuple]:
    following = 0.0
    for time, image in frames:
        if time >= following - 1e-6:
            yield time, image, False
            following = (np.floor(time * rate + 1e-6) + 1) / rate


def _chained(first, rest: Iterator) -> Iterator:
    yield first
    yield from rest


class _Batches:
    """Embeds faces in batches of few shapes."""

    def __init__(self, recogniser: Recogniser, size: int):
        self._recogniser = recogniser
        self._faces = np.zeros((size, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        self._waiting: list[dict] = []
        self._done: list[FoundFaces] = []
        self._failed: list[int] = []

    def add(self, item: int, time: float, found: Detections, crops: list, inside: np.ndarray) -> None:
        for row, crop in enumerate(crops):
            self._faces[len(self._waiting)] = crop
            self._waiting.append(
                {
                    "item": item,
                    "time": time,
                    "boxes": found.boxes[row],
                    "landmarks": found.landmarks[row],
                    "scores": found.scores[row],
                    "inside": inside[row],
                }
            )
            if len(self._waiting) == len(self._faces):
                self._flush()

    def finish(self) -> tuple[FoundFaces, list[int]]:
        """(all faces, the items of those that could not be embedded)."""
        self._flush()
        return join(self._done) if self._done else no_faces(), self._failed

    def _flush(self) -> None:
        if not self._waiting:
            return
        count = len(self._waiting)
        rows = {name: np.array([row[name] for row in self._waiting]) for name in self._waiting[0]}
        faces = self._faces[: self._recogniser.rows(count, len(self._faces))]
        found = self._recogniser(faces, keypoints=self._recogniser.keypoints(rows["landmarks"]))
        vectors, norms = (values[:count] for values in found)
        good = embedded(vectors, norms)
        self._failed += rows["item"][~good].tolist()
        rows = {name: values[good] for name, values in rows.items()}
        types = {"item": np.int64, "time": np.float64}
        self._done.append(
            FoundFaces(
                **{name: values.astype(types.get(name, np.float32)) for name, values in rows.items()},
                embeddings=vectors[good].astype(np.float16),
                norms=norms[good].astype(np.float32),
                crops=[as_jpeg(self._faces[i]) for i in np.flatnonzero(good)],
            )
        )
        self._waiting.clear()
