"""The Grain pipeline: shuffled people -> random templates -> padded batches."""

from typing import NamedTuple

import grain
import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.data.template_sampling import TemplateSampler
from fpsset.face_set import FaceSet, frames_of

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
        frames = frames_of(table.media[faces], mask)
        face_set = FaceSet(table.embeddings[faces], table.norms[faces], mask, frames)
        return TrainingBatch(face_set, people[rows].astype(np.int32))

    people = grain.MapDataset.range(len(sampler.people)).seed(seed).shuffle()
    dataset = people.repeat().batch(batch_size).random_map(draw)
    # Two threads keep ahead of a step; deeper buffers only hold memory.
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))
