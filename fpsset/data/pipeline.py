"""The Grain input pipeline: shuffled people -> random templates -> padded batches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import grain
import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.data.shuffle import ShuffledBatches
from fpsset.face_set import FaceSet, group_media

_ALL_ROWS = slice(None)


class TrainingBatch(NamedTuple):
    """B templates and the people they show."""

    face_set: FaceSet  # [B, N]
    labels: np.ndarray  # [B] int32 classes: positions in `TemplateSampler.people`


def training_batches(
    table: FeatureTable,
    batch_size: int,
    seed: int,
    max_size: int = 20,
    max_clip: int = 3,
    rows: np.ndarray | slice = _ALL_ROWS,
) -> grain.DatasetIterator:
    """An endless, resumable iterator of TrainingBatch; people are reshuffled every pass.

    Draws depend only on `seed` and the batch's position, so the iterator's state is a single number. Every
    process draws the whole batch, which is cheap, and loads only its own rows, so results do not depend on
    the number of processes.

    Args:
      table: faces of the people to train on.
      batch_size: templates per step, over all processes.
      seed: random seed of the shuffles and the draws.
      max_size: N, the largest template size.
      max_clip: the largest number of frames per clip.
      rows: the rows of each batch that this process loads.
    """
    sampler = TemplateSampler(table, max_size, max_clip)

    def draw(people: np.ndarray, rng: np.random.Generator) -> TrainingBatch:
        faces, mask = (array[rows] for array in sampler.draw(people, rng))
        # Padded slots repeat row 0 instead of zeros: the mask excludes them, and it saves a pass over memory.
        media, sizes = group_media(table.media[faces], mask)
        face_set = FaceSet(table.embeddings[faces], table.norms[faces], mask, sizes, media=media)
        return TrainingBatch(face_set, people[rows].astype(np.int32))

    # Two threads keep ahead of a training step; a deeper buffer only costs memory.
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    return drawn_batches(len(sampler.people), batch_size, seed, draw, options)


def drawn_batches(
    count: int,
    batch_size: int,
    seed: int,
    draw: Callable[[np.ndarray, np.random.Generator], Any],
    options: grain.ReadOptions,
) -> grain.DatasetIterator:
    """An endless, resumable iterator of what `draw` makes of batches of shuffled people.

    Args:
      count: C, the number of people.
      batch_size: B, people per batch.
      seed: random seed of the shuffles and the draws.
      draw: ([B] int64 people, random generator of the batch) -> item.
      options: threads and buffers.
    """
    # The seeds, and thereby the order and the draws, are those of Grain's own
    # range(count).seed(seed).shuffle().repeat().batch(batch_size).random_map(draw).
    shuffle, draws = (np.random.SeedSequence((seed, depth)).generate_state(1)[0] for depth in (1, 4))
    people = grain.MapDataset.source(ShuffledBatches(count, batch_size, shuffle))
    return iter(people.random_map(draw, seed=draws).to_iter_dataset(options))


class TemplateSampler:
    """Draws training templates: seeds with replacement, and from each a clip of a few frames.

    The template size is uniform in 1 ... max_size. Seeds are drawn until the template is full; each adds a
    clip of distinct frames, whose length is uniform in 1 ... max_clip but at most the frames of the seed;
    the last clip is cut to fit. Rows belong to one seed if they share `FeatureTable.sources`.

    Attributes:
      people: [C] sorted subjects; a subject's position is its class.
    """

    def __init__(self, table: FeatureTable, max_size: int = 20, max_clip: int = 3):
        """Indexes a table by people and seeds.

        Args:
          table: M faces; only `subject` and `sources` are read.
          max_size: the largest template size.
          max_clip: the largest number of frames per clip.
        """
        self.max_size, self.max_clip = max_size, max_clip
        self._rows = np.lexsort((table.sources, table.subject))
        keys = np.stack([table.subject, table.sources], 1)[self._rows]
        new_seed = np.concatenate([[True], (keys[1:] != keys[:-1]).any(1)])
        self._seed_start = np.flatnonzero(new_seed)
        self._seed_frames = np.diff(np.append(self._seed_start, len(keys)))
        self.people, self._first_seed, self._seed_count = np.unique(
            keys[self._seed_start, 0], return_index=True, return_counts=True
        )

    def draw(self, people: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws one template for each of the given people.

        Args:
          people: [B] int, positions in `self.people`.
          rng: random generator.

        Returns:
          ([B, max_size] int64 rows of the table, 0 in padded slots; [B, max_size] bool mask).
        """
        rows, _, mask = self.draw_clips(people, rng)
        return rows, mask

    def draw_clips(
        self, people: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Like `draw`, but also returns the clip that each face belongs to.

        Returns:
          (rows, [B, max_size] int64 clip numbers, from 0 in each template, mask).
        """
        shape = (len(people), self.max_size)
        size = rng.integers(1, self.max_size + 1, shape[0])
        seeds = self._first_seed[people][:, None] + _below(rng, self._seed_count[people][:, None], shape)
        frames = self._seed_frames[seeds]
        length = np.minimum(rng.integers(1, self.max_clip + 1, shape), frames)
        # Slot t lies in the clip whose span [start, end) holds t; the clips before it end at t or earlier.
        end = np.cumsum(length, axis=1)
        slots = np.arange(self.max_size)
        places = np.arange(len(people))[:, None] * (self.max_size + 1) + np.minimum(end, self.max_size)
        ended = np.bincount(places.reshape(-1), minlength=len(people) * (self.max_size + 1))
        clip = np.cumsum(ended.reshape(-1, self.max_size + 1), axis=1)[:, :-1]
        frame = slots - np.take_along_axis(end - length, clip, axis=1)
        # A clip takes consecutive frames from a random start, cyclically, so that its frames are distinct.
        frames = np.take_along_axis(frames, clip, axis=1)
        first = np.take_along_axis(_below(rng, self._seed_frames[seeds], shape), clip, axis=1)
        places = self._seed_start[np.take_along_axis(seeds, clip, axis=1)] + (first + frame) % frames
        mask = slots < size[:, None]
        return np.where(mask, self._rows[places], 0), clip, mask


def _below(rng, limit: np.ndarray, shape) -> np.ndarray:
    """Uniform integers in [0, limit)."""
    return np.minimum((rng.random(shape) * limit).astype(np.int64), limit - 1)
