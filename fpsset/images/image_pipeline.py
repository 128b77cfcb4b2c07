"""The Grain input pipeline of images: shuffled people -> random templates -> images to augment to clips."""

from typing import NamedTuple

import grain
import numpy as np

from fpsset.data.pipeline import TemplateSampler, drawn_batches
from fpsset.errors import InputError
from fpsset.images.aligned_faces import UnreadableImage
from fpsset.images.image_sources import ImageSource, read_crop


class ImageBatch(NamedTuple):
    """B templates of at most N frames, which augmentation makes from one image per clip."""

    images: np.ndarray  # [B, N, size, size, 3] uint8, RGB, one per clip; zeros after a template's last clip
    clip: np.ndarray  # [B, N] int32, the index in `images` from which each frame is made
    medium: np.ndarray  # [B, N] int32 in [0, N), the first frame of the template from the same medium
    mask: np.ndarray  # [B, N] bool
    labels: np.ndarray  # [B] int32 classes


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
    """An endless, resumable iterator of ImageBatch: the counterpart of `training_batches` for images.

    Each image is a seed, from which clips of 1 ... max_clip frames can be made.

    Args:
      source: aligned crops.
      usable: [M] int rows of the source to train on.
      batch_size: templates per step, over all processes.
      seed: random seed of the shuffles and the draws.
      max_size: N, the largest template size.
      max_clip: the largest number of frames per clip.
      size: pixels per side.
      threads: decoding threads; each decodes a whole batch.
      rows: the rows of each batch that this process loads.

    Raises:
      InputError: an image cannot be read; raised during iteration, and names the image.
    """
    sampler = TemplateSampler(_PossibleFrames.of(source.subject[usable], max_clip), max_size, max_clip)

    def draw(people: np.ndarray, rng: np.random.Generator) -> ImageBatch:
        drawn, clip, mask = (array[rows] for array in sampler.draw_clips(people, rng))
        image = drawn // max_clip
        images = np.zeros((*mask.shape, size, size, 3), np.uint8)
        template, first_frame = np.nonzero(mask & (np.diff(clip, axis=1, prepend=-1) > 0))
        for b, n in zip(template, first_frame, strict=True):
            images[b, clip[b, n]] = _read_or_fail(source, usable[image[b, n]], size)
        media = source.media[usable[image]]
        medium = (media[:, :, None] == media[:, None, :]).argmax(-1)
        labels = people[rows].astype(np.int32)
        return ImageBatch(images, clip.astype(np.int32), medium.astype(np.int32), mask, labels)

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    return drawn_batches(len(sampler.people), batch_size, seed, draw, options)


class _PossibleFrames(NamedTuple):
    """The columns that `TemplateSampler` reads, with `max_clip` rows per image."""

    subject: np.ndarray
    sources: np.ndarray

    @classmethod
    def of(cls, subject: np.ndarray, max_clip: int) -> "_PossibleFrames":
        image = np.arange(len(subject)).repeat(max_clip)
        return cls(subject.repeat(max_clip), image)


def _read_or_fail(source: ImageSource, row: int, size: int) -> np.ndarray:
    try:
        return read_crop(source, row, size)
    except UnreadableImage as error:
        raise InputError(
            f"{source.place(int(row))}: {error}; fix it and run the same command again to continue"
        ) from error
