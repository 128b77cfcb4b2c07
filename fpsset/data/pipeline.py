"""The Grain pipeline: shuffled people -> random templates -> padded batches."""

from typing import NamedTuple

import grain
import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.data.template_sampling import TemplateSampler
from fpsset.face_set import FaceSet


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
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """An endless, resumable iterator of TrainingBatch; people are reshuffled every pass.

    The draws depend on `seed` and a batch's position alone, so the iterator's state is one number.

    Args:
      table: faces of the people to train on.
      batch_size: templates a step.
      seed: of the shuffles and the draws.
      max_size: N, the largest template.
      max_clip: frames a clip, at most.
      process_index: of this process; each takes every `process_count`-th of the shuffled people, so that
        in a pass of them all every person comes once.
      process_count: of processes that train together.
    """
    sampler = TemplateSampler(table, max_size, max_clip)

    def draw(people: np.ndarray, rng: np.random.Generator) -> TrainingBatch:
        # Processes are given equal generators: their streams are laid 2^128 draws apart.
        rng = np.random.Generator(rng.bit_generator.jumped(process_index))
        rows, mask = sampler.draw(people, rng)
        # Padding repeats row 0: the mask keeps it out, and a gather beats a gather and a fill.
        face_set = FaceSet(table.embeddings[rows], table.norms[rows], mask)
        return TrainingBatch(face_set, people.astype(np.int32))

    people = grain.MapDataset.range(len(sampler.people)).seed(seed).shuffle()
    if process_count > 1:  # a slice of all of them would shift the draws that follow
        people = people[process_index::process_count]
    dataset = people.repeat().batch(batch_size).random_map(draw)
    # Two threads keep ahead of a step; deeper buffers only hold memory.
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))
