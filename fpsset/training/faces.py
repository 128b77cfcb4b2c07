"""The training loop's input: batches, validation people and what identifies them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import grain
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from fpsset.data.feature_table import FeatureTable, split_people
from fpsset.data.pipeline import TemplateLaw, TrainingBatch, training_batches
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
      held_out: faces of people who appear in no batch, norms scaled; none where nobody is held out.
      people: C, the number of training people; labels are 0 to C - 1.
      images: that a pass may go over, see `in_steps`.
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
    images: int
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
            template_law(config),
            process_rows(config.batch_size, mesh),
            config.data.dtype,
        ),
        to_sets=lambda batch, _: batch,
        sample=lambda: seen,
        everyone=lambda: table.with_norm_scale(scale),
        held_out=held_out,
        people=people,
        images=len(np.unique(np.stack([seen.subject, seen.sources], 1), axis=0)),
        dim=table.dim,
        norm_scale=scale,
        backbone=table.backbone,
        fingerprint=table.fingerprint(),
        summary=f"{len(seen)} faces of {people} people",
    )


def template_law(config: ConfigDict) -> TemplateLaw:
    """The law by which `config` draws templates."""
    recipe = config.recipe
    return TemplateLaw(
        max_size=config.data.max_size,
        max_clip=config.data.max_clip,
        by_image=recipe.draws == "images",
        epoch=recipe.epoch,
        same_size=recipe.group if recipe.sizes == "group" else 1,
        clips_fill=recipe.clips == "remaining",
    )


def in_steps(config: ConfigDict, faces: TrainingFaces) -> ConfigDict:
    """A copy of `config` that says in steps what it leaves to the epochs of its recipe."""
    config = config.copy_and_resolve_references()
    law = template_law(config)
    epoch = law.steps_per_epoch(faces.images if law.by_image else faces.people, config.batch_size)
    config.steps = config.steps or config.recipe.epochs * epoch
    config.eval_every = config.eval_every or epoch
    milestones = (epoch * milestone for milestone in config.recipe.milestones)
    config.optimizer.milestones = tuple(config.optimizer.milestones) or tuple(milestones)
    return config


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
