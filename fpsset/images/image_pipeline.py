"""The Grain input pipeline of images: shuffled people or images -> templates -> images to make clips of."""

from typing import NamedTuple

import grain
import numpy as np

from fpsset.data.pipeline import TemplateLaw, TemplateSampler, drawn_batches
from fpsset.errors import InputError
from fpsset.images.aligned_faces import UnreadableImage
from fpsset.images.image_sources import ImageSource, read_crop

_LAW = TemplateLaw()


class ImageBatch(NamedTuple):
    """B templates of at most N frames, which augmentation makes from one image per clip."""

    images: np.ndarray  # [B, N, size, size, 3] uint8, RGB, at the numbers of clips; zeros elsewhere
    clip: np.ndarray  # [B, N] int32, the index in `images` from which each frame is made
    medium: np.ndarray  # [B, N] int32 in [0, N), the first frame of the template from the same medium
    mask: np.ndarray  # [B, N] bool
    labels: np.ndarray  # [B] int32 classes


def image_batches(
    source: ImageSource,
    usable: np.ndarray,
    batch_size: int,
    seed: int,
    law: TemplateLaw = _LAW,
    size: int = 112,
    threads: int = 4,
    rows: np.ndarray | slice = slice(None),
    one_clip_per_image: bool = False,
) -> grain.DatasetIterator:
    """An endless, resumable iterator of ImageBatch: the counterpart of `training_batches` for images.

    Each image is a seed, from which clips of up to `law.max_clip` frames can be made.

    Args:
      source: aligned crops.
      usable: [M] int rows of the source to train on.
      batch_size: templates per step, over all processes.
      seed: random seed of the shuffles and the draws.
      law: by which templates are drawn.
      size: pixels per side.
      threads: decoding threads; each decodes a whole batch.
      rows: the rows of each batch that this process loads.
      one_clip_per_image: clips of one image in a template are one clip: what augmentation does once a clip,
        it then does once an image.

    Raises:
      InputError: an image cannot be read; raised during iteration, and names the image.
    """
    frames = law.max_clip
    sampler = TemplateSampler(_PossibleFrames.of(source.subject[usable], frames), law)

    def draw(items: np.ndarray, rng: np.random.Generator) -> ImageBatch:
        people = sampler.shown[items]
        drawn, clip, mask = (array[rows] for array in sampler.draw_clips(people, rng))
        image = drawn // frames
        if one_clip_per_image:
            clip = np.take_along_axis(clip, _first_of_its_kind(image), axis=1)
        images = np.zeros((*mask.shape, size, size, 3), np.uint8)
        templates, numbers = np.nonzero(mask)
        needed = {(b, clip[b, n]): image[b, n] for b, n in zip(templates, numbers, strict=True)}
        for (b, number), row in needed.items():
            images[b, number] = _read_or_fail(source, usable[row], size)
        medium = _first_of_its_kind(source.media[usable[image]])
        labels = people[rows].astype(np.int32)
        return ImageBatch(images, clip.astype(np.int32), medium.astype(np.int32), mask, labels)

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    return drawn_batches(len(sampler.shown), batch_size, seed, draw, options, law)


def _first_of_its_kind(kinds: np.ndarray) -> np.ndarray:
    """The first slot of each template that holds the same as a slot: [B, N] -> [B, N] int64."""
    return (kinds[:, :, None] == kinds[:, None, :]).argmax(-1)


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
