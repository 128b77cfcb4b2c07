"""The Grain input pipeline: shuffled people or images -> random templates -> padded batches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import grain
import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.data.shuffle import ShuffledBatches
from fpsset.face_set import FaceSet, group_media

_ALL_ROWS = slice(None)


class TemplateLaw(NamedTuple):
    """The law by which training templates are drawn; docs/published.md says where each choice comes from.

    Attributes:
      max_size: N, the largest template size; sizes are uniform in 1 ... N.
      max_clip: the largest number of frames per clip.
      by_image: a pass goes over images, so that a person weighs by its images; False: over people.
      epoch: share of a pass, in (0, 1], after which everything is shuffled anew.
      same_size: consecutive templates of a batch that share one draw of the size.
      clips_fill: a clip's length is uniform in 1 ... the frames that its template still lacks, and at most
        `max_clip`; False: uniform in 1 ... `max_clip`, and the last clip is cut to fit.
    """

    max_size: int = 20
    max_clip: int = 3
    by_image: bool = False
    epoch: float = 1.0
    same_size: int = 1
    clips_fill: bool = False

    def steps_per_epoch(self, items: int, batch_size: int) -> int:
        """Steps that `epoch` of a pass over `items` people or images takes, at least 1."""
        return max(1, int(self.epoch * -(-items // batch_size)))


_LAW = TemplateLaw()


class TrainingBatch(NamedTuple):
    """B templates and the people they show."""

    face_set: FaceSet  # [B, N]
    labels: np.ndarray  # [B] int32 classes: positions in `TemplateSampler.people`


def training_batches(
    table: FeatureTable,
    batch_size: int,
    seed: int,
    law: TemplateLaw = _LAW,
    rows: np.ndarray | slice = _ALL_ROWS,
    dtype: np.typing.DTypeLike = np.float32,
) -> grain.DatasetIterator:
    """An endless, resumable iterator of TrainingBatch; people or images are reshuffled every pass.

    Draws depend only on `seed` and the batch's position, so the iterator's state is a single number. Every
    process draws the whole batch, which is cheap, and loads only its own rows, so results do not depend on
    the number of processes.

    Args:
      table: faces of the people to train on.
      batch_size: templates per step, over all processes.
      seed: random seed of the shuffles and the draws.
      law: by which templates are drawn; an image is what the rows of one seed show.
      rows: the rows of each batch that this process loads.
      dtype: of the embeddings in a batch, float32 or float16, which the model widens on the device.
    """
    sampler = TemplateSampler(table, law)
    embeddings = table.embeddings.astype(dtype, copy=False)

    def draw(items: np.ndarray, rng: np.random.Generator) -> TrainingBatch:
        people = sampler.shown[items]
        faces, mask = (array[rows] for array in sampler.draw(people, rng))
        # Padded slots repeat row 0 instead of zeros: the mask excludes them, and it saves a pass over memory.
        media, sizes = group_media(table.media[faces], mask)
        # `take` copies rows up to twice as fast as an index does.
        face_set = FaceSet(embeddings.take(faces, axis=0), table.norms[faces], mask, sizes, media=media)
        return TrainingBatch(face_set, people[rows].astype(np.int32))

    # Two threads keep ahead of a training step; a deeper buffer only costs memory.
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    return drawn_batches(len(sampler.shown), batch_size, seed, draw, options, law)


def drawn_batches(
    count: int,
    batch_size: int,
    seed: int,
    draw: Callable[[np.ndarray, np.random.Generator], Any],
    options: grain.ReadOptions,
    law: TemplateLaw = _LAW,
) -> grain.DatasetIterator:
    """An endless, resumable iterator of what `draw` makes of batches of shuffled people or images.

    Args:
      count: C, the number of people or images.
      batch_size: B, templates per batch.
      seed: random seed of the shuffles and the draws.
      draw: ([B] int64 in 0 ... C - 1, random generator of the batch) -> item.
      options: threads and buffers.
      law: only its epochs matter here.
    """
    # The seeds, and thereby the order and the draws, are those of Grain's own
    # range(count).seed(seed).shuffle().repeat().batch(batch_size).random_map(draw).
    shuffle, draws = (np.random.SeedSequence((seed, depth)).generate_state(1)[0] for depth in (1, 4))
    taken = law.steps_per_epoch(count, batch_size) * batch_size
    taken = taken if law.epoch < 1 and taken <= count else None  # whole passes join without a gap
    items = grain.MapDataset.source(ShuffledBatches(count, batch_size, shuffle, taken))
    return iter(items.random_map(draw, seed=draws).to_iter_dataset(options))


class TemplateSampler:
    """Draws training templates: seeds with replacement, and from each a clip of a few frames.

    Seeds are drawn until the template is full; each adds a clip of distinct frames, at most those of the
    seed. Rows belong to one seed if they share `FeatureTable.sources`.

    Attributes:
      people: [C] sorted subjects; a subject's position is its class.
      shown: the class that each item of a pass shows: [C] int64 for people, [seeds] int64 for images.
    """

    def __init__(self, table: FeatureTable, law: TemplateLaw = _LAW):
        """Indexes a table by people and seeds.

        Args:
          table: M faces; only `subject` and `sources` are read.
          law: by which templates are drawn.
        """
        self._law = law
        self._rows = np.lexsort((table.sources, table.subject))
        keys = np.stack([table.subject, table.sources], 1)[self._rows]
        new_seed = np.concatenate([[True], (keys[1:] != keys[:-1]).any(1)])
        self._seed_start = np.flatnonzero(new_seed)
        self._seed_frames = np.diff(np.append(self._seed_start, len(keys)))
        self.people, self._first_seed, self._seed_count = np.unique(
            keys[self._seed_start, 0], return_index=True, return_counts=True
        )
        classes = np.arange(len(self.people))
        self.shown = classes.repeat(self._seed_count) if law.by_image else classes

    def draw(self, people: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws one template for each of the given people.

        Args:
          people: [B] int, positions in `self.people`.
          rng: random generator.

        Returns:
          ([B, N] int64 rows of the table, 0 in padded slots; [B, N] bool mask).
        """
        rows, _, mask = self.draw_clips(people, rng)
        return rows, mask

    def draw_clips(
        self, people: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Like `draw`, but also returns the clip that each face belongs to.

        Returns:
          (rows, [B, N] int64 clip numbers, from 0 in each template, mask).
        """
        slots = np.arange(self._law.max_size)
        shape = (len(people), len(slots))
        size = rng.integers(1, len(slots) + 1, -(-shape[0] // self._law.same_size))
        size = size.repeat(self._law.same_size)[: shape[0]]
        seeds = self._first_seed[people][:, None] + _below(rng, self._seed_count[people][:, None], shape)
        frames = self._seed_frames[seeds]
        length = self._clip_lengths(rng, size, frames)
        # Slot t lies in the clip whose span [start, end) holds t; the clips before it end at t or earlier.
        end = np.cumsum(length, axis=1)
        width = len(slots) + 1
        places = np.arange(len(people))[:, None] * width + np.minimum(end, len(slots))
        ended = np.bincount(places.reshape(-1), minlength=len(people) * width)
        clip = np.cumsum(ended.reshape(-1, width), axis=1)[:, :-1]
        frame = slots - np.take_along_axis(end - length, clip, axis=1)
        # A clip takes consecutive frames from a random start, cyclically, so that its frames are distinct.
        frames = np.take_along_axis(frames, clip, axis=1)
        first = np.take_along_axis(_below(rng, self._seed_frames[seeds], shape), clip, axis=1)
        places = self._seed_start[np.take_along_axis(seeds, clip, axis=1)] + (first + frame) % frames
        mask = slots < size[:, None]
        return np.where(mask, self._rows[places], 0), clip, mask

    def _clip_lengths(self, rng: np.random.Generator, size: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Lengths of up to N clips of each template, [B, N], from sizes [B] and seeds' frames [B, N]."""
        if not self._law.clips_fill:
            return np.minimum(rng.integers(1, self._law.max_clip + 1, frames.shape), frames)
        share, length, lacks = rng.random(frames.shape), np.empty_like(frames), size.copy()
        for clip, most in enumerate(np.minimum(frames, self._law.max_clip).T):
            drawn = 1 + (share[:, clip] * lacks).astype(np.int64)  # 1 where the template is full
            length[:, clip] = np.minimum(drawn, np.minimum(most, np.maximum(lacks, 1)))
            lacks = np.maximum(lacks - length[:, clip], 0)
        return length


def _below(rng, limit: np.ndarray, shape) -> np.ndarray:
    """Uniform integers in [0, limit)."""
    return np.minimum((rng.random(shape) * limit).astype(np.int64), limit - 1)
