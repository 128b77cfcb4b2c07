"""The Grain pipeline of images: shuffled people -> random templates -> decoded clips, not yet augmented."""

from typing import NamedTuple

import grain
import numpy as np

from fpsset.data.pipeline import TemplateSampler
from fpsset.errors import InputError
from fpsset.images.image_files import UnreadableImage
from fpsset.images.image_sources import ImageSource, read_crop


class ImageBatch(NamedTuple):
    """B templates of at most N frames, as clips whose frames are still one image."""

    images: np.ndarray  # [B, N, size, size, 3] uint8, RGB, one a clip; zeros beyond a template's clips
    clip: np.ndarray  # [B, N] int32, which of them a frame is made of
    medium: np.ndarray  # [B, N] int32 in [0, N), the first frame of the template that is of the same medium
    mask: np.ndarray  # [B, N] bool
    labels: np.ndarray  # [B] int32


def image_batches(
    source: ImageSource,
    usable: np.ndarray,
    batch_size: int,
    seed: int,
    max_size: int = 20,
    max_clip: int = 3,
    size: int = 112,
    threads: int = 4,
    rows: np.ndarray | slice = slice(None),
) -> grain.DatasetIterator:
    """An endless, resumable iterator of ImageBatch, as `training_batches` is of features.

    Each image is a seed of clips of 1 ... max_clip frames.

    Args:
      source: aligned crops.
      usable: rows of the source, the images to train on.
      batch_size: templates a step.
      seed: of the shuffles and the draws.
      max_size: N, the largest template.
      max_clip: frames a clip, at most.
      size: pixels a side.
      threads: that decode, a batch each.
      rows: of each batch that this process loads.

    Raises:
      InputError: when iterated, for an image that cannot be read; it is named.
    """
    sampler = TemplateSampler(_Frames.of(source.subject[usable], max_clip), max_size, max_clip)

    def draw(people: np.ndarray, rng: np.random.Generator) -> ImageBatch:
        drawn, clip, mask = (array[rows] for array in sampler.draw_clips(people, rng))
        image = drawn // max_clip
        images = np.zeros((*mask.shape, size, size, 3), np.uint8)
        template, first = np.nonzero(mask & (np.diff(clip, axis=1, prepend=-1) > 0))
        for b, n in zip(template, first, strict=True):
            images[b, clip[b, n]] = _required(source, usable[image[b, n]], size)
        media = source.media[usable[image]]
        medium = (media[:, :, None] == media[:, None, :]).argmax(-1)
        numbers = clip.astype(np.int32), medium.astype(np.int32)
        return ImageBatch(images, *numbers, mask, people[rows].astype(np.int32))

    dataset = (
        grain.MapDataset.range(len(sampler.people))
        .seed(seed)
        .shuffle()
        .repeat()
        .batch(batch_size)
        .random_map(draw)
    )
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)))


class _Frames(NamedTuple):
    """The columns that template sampling reads, of images that can become `max_clip` frames each."""

    subject: np.ndarray
    sources: np.ndarray

    @classmethod
    def of(cls, subject: np.ndarray, max_clip: int) -> "_Frames":
        image = np.arange(len(subject)).repeat(max_clip)
        return cls(subject.repeat(max_clip), image)


def _required(source: ImageSource, row: int, size: int) -> np.ndarray:
    try:
        return read_crop(source, row, size)
    except UnreadableImage as error:
        raise InputError(
            f"{source.place(int(row))}: {error}; mend it, and the same command goes on"
        ) from error
