"""The Grain pipeline: shuffled people -> random templates -> padded batches."""

from typing import NamedTuple

import grain
import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.face_set import FaceSet, group_media

_ALL = slice(None)


class TrainingBatch(NamedTuple):
    """What a training step sees."""

    face_set: FaceSet  # [B, N]
    labels: np.ndarray  # [B] int32


def training_batches(
    table: FeatureTable,
    batch_size: int,
    seed: int,
    max_size: int = 20,
    max_clip: int = 3,
    rows: np.ndarray | slice = _ALL,
) -> grain.DatasetIterator:
    """An endless, resumable iterator of TrainingBatch; people are reshuffled every pass.

    The draws depend on `seed` and a batch's position alone, so the iterator's state is one number. Every
    process that trains draws the whole batch, which is cheap, and gathers its own rows: how many they are
    changes nothing.

    Args:
      table: faces of the people to train on.
      batch_size: templates a step.
      seed: of the shuffles and the draws.
      max_size: N, the largest template.
      max_clip: frames a clip, at most.
      rows: of each batch that this process loads.
    """
    sampler = TemplateSampler(table, max_size, max_clip)

    def draw(people: np.ndarray, rng: np.random.Generator) -> TrainingBatch:
        faces, mask = (array[rows] for array in sampler.draw(people, rng))
        # Padding repeats row 0: the mask keeps it out, and a gather beats a gather and a fill.
        media, sizes = group_media(table.media[faces], mask)
        face_set = FaceSet(table.embeddings[faces], table.norms[faces], mask, sizes, media=media)
        return TrainingBatch(face_set, people[rows].astype(np.int32))

    people = grain.MapDataset.range(len(sampler.people)).seed(seed).shuffle()
    dataset = people.repeat().batch(batch_size).random_map(draw)
    # Two threads keep ahead of a step; deeper buffers only hold memory.
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))


class TemplateSampler:
    """Draws templates as the method does: seeds with replacement, each a clip of a few frames.

    A template's size is drawn from U{1..max_size}. Seeds are drawn until it is full; each gives a
    clip of U{1..max_clip} frames, at most as many as it has, all different; the last clip is cut.
    Rows share a seed by the column `seed`, else by `media`.

    Attributes:
      people: [C] subjects; a subject's position is its class.
    """

    def __init__(self, table: FeatureTable, max_size: int = 20, max_clip: int = 3):
        """Indexes the table: people -> seeds -> rows."""
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
          rng: source of all draws.

        Returns:
          ([B, max_size] int64 rows of the table, 0 on padding; [B, max_size] bool mask).
        """
        rows, _, mask = self.draw_clips(people, rng)
        return rows, mask

    def draw_clips(
        self, people: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `draw`, and which clip of its template each face is of.

        Returns:
          (rows, [B, max_size] int64 clips, counted from 0 in each template, mask).
        """
        shape = (len(people), self.max_size)
        size = rng.integers(1, self.max_size + 1, shape[0])
        seeds = self._first_seed[people][:, None] + _below(rng, self._seed_count[people][:, None], shape)
        frames = self._seed_frames[seeds]
        length = np.minimum(rng.integers(1, self.max_clip + 1, shape), frames)
        # Slot t lies in the clip whose span [start, end) holds t.
        end = np.cumsum(length, axis=1)
        slots = np.arange(self.max_size)
        clip = (end[:, None, :] <= slots[None, :, None]).sum(-1)
        frame = slots - np.take_along_axis(end - length, clip, axis=1)
        # Frames follow each other from a random first one, so that they differ.
        frames = np.take_along_axis(frames, clip, axis=1)
        first = np.take_along_axis(_below(rng, self._seed_frames[seeds], shape), clip, axis=1)
        places = self._seed_start[np.take_along_axis(seeds, clip, axis=1)] + (first + frame) % frames
        mask = slots < size[:, None]
        return np.where(mask, self._rows[places], 0), clip, mask


def _below(rng, limit: np.ndarray, shape) -> np.ndarray:
    """Uniform integers in [0, limit)."""
    return np.minimum((rng.random(shape) * limit).astype(np.int64), limit - 1)
