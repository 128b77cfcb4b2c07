"""The training loop's input: batches, validation people and what identifies them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import grain
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from fpsset.data.feature_table import FeatureTable, split_people
from fpsset.data.pipeline import TrainingBatch, training_batches
from fpsset.datasets.sources import training_images, training_table
from fpsset.errors import InputError
from fpsset.parallel.mesh import data_mesh, process_rows


@dataclasses.dataclass(frozen=True)
class TrainingFaces:
    """Batches to train on and people to validate on.

    Attributes:
      mesh: of the devices that share every batch.
      batches: endless, resumable iterator over this process's rows of each batch.
      to_sets: (item of `batches` on the mesh, steps done before it) -> TrainingBatch; has no trained
        parameters.
      sample: () -> faces of the training people, norms scaled; sorted subjects correspond to the labels.
      everyone: () -> faces to fit a model in closed form to: with features of held-out people too.
      held_out: faces of people who appear in no batch, norms scaled.
      people: C, the number of training people; labels are 0 to C - 1.
      dim: D, the width of the embeddings.
      norm_scale: factor that the norms were multiplied by.
      backbone: digest of the weights that made the embeddings; empty if unknown.
      fingerprint: digest of all faces and of what embeds them.
      summary: short description of the training faces, for the log.
    """

    mesh: Mesh
    batches: grain.DatasetIterator
    to_sets: Callable[[Any, int], TrainingBatch]
    sample: Callable[[], FeatureTable]
    everyone: Callable[[], FeatureTable]
    held_out: FeatureTable
    people: int
    dim: int
    norm_scale: float
    backbone: str
    fingerprint: str
    summary: str


def faces_of_table(config: ConfigDict, table: FeatureTable, mesh: Mesh) -> TrainingFaces:
    """Training input from a feature table.

    Args:
      config: checked configuration.
      table: training and validation people.
      mesh: of the devices to train on.

    Raises:
      InputError: fewer than four people, norms that cannot be scaled, or a batch size that is not a multiple
        of the device count.
    """
    scale = norm_scale(table, config.data.norm_mean)
    seen, held_out = split_people(table.with_norm_scale(scale), config.data.holdout, config.seed)
    people = len(np.unique(seen.subject))
    return TrainingFaces(
        mesh=mesh,
        batches=training_batches(
            seen,
            config.batch_size,
            config.seed,
            config.data.max_size,
            config.data.max_clip,
            process_rows(config.batch_size, mesh),
        ),
        to_sets=lambda batch, _: batch,
        sample=lambda: seen,
        everyone=lambda: table.with_norm_scale(scale),
        held_out=held_out,
        people=people,
        dim=table.dim,
        norm_scale=scale,
        backbone=table.backbone,
        fingerprint=table.fingerprint(),
        summary=f"{len(seen)} faces of {people} people",
    )


def norm_scale(table: FeatureTable, wanted: float) -> float:
    """Factor that scales the faces' mean norm to `wanted`; 1 if `wanted` is 0."""
    mean = float(table.norms.mean(dtype=np.float64))
    if wanted and not mean:
        raise InputError(
            f"{table.name}: all norms are zero and cannot be scaled; give --config.data.norm_mean=0"
        )
    return wanted / mean if wanted else 1.0


def load_training_faces(config) -> TrainingFaces:
    """Training input from features or images, as `config.data.source` says, on all devices.

    Args:
      config: checked configuration.

    Raises:
      InputError: bad data or weights.
    """
    mesh = data_mesh()
    if config.data.source != "images":
        return faces_of_table(config, training_table(config.data, config.seed), mesh)
    from fpsset.images.color_order import check_color_order
    from fpsset.images.image_sources import read_crop
    from fpsset.images.recognisers import backbone_recogniser, load_backbone
    from fpsset.models.iresnet import IMAGE_SIZE
    from fpsset.training.images import faces_of_images

    source = training_images(config.data)
    card, variables = load_backbone(config.backbone, "config.backbone")
    if config.backbone.check_color_order:
        recogniser = backbone_recogniser(card, variables, config.backbone.dtype)
        check_color_order(source.subject, lambda row: read_crop(source, row, IMAGE_SIZE), recogniser)
    return faces_of_images(config, source, card, variables, mesh)
