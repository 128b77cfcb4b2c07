"""From what is on disk to a model ready to call, or faces ready to train on."""

import os
from typing import TYPE_CHECKING

from fpsset.aggregator import Aggregator
from fpsset.errors import InputError
from fpsset.files import as_path
from fpsset.interop.official import load_official
from fpsset.weights import is_weights, read_weights

if TYPE_CHECKING:
    from fpsset.training.faces import TrainingFaces


def load(path: str | os.PathLike) -> Aggregator:
    """Loads a trained model.

    Args:
      path: a workdir (its best checkpoint), its `checkpoints` folder, one checkpoint in that, a folder
        that `fpsset convert` wrote, or a published FaceCoresetNet checkpoint itself.

    Returns:
      Aggregator.

    Raises:
      InputError: there is no aggregator.
    """
    path = as_path(path)
    if not (path.is_file() or is_weights(path)):
        from fpsset.training.trained import read_params  # Orbax takes seconds to import

        return Aggregator(*read_params(path))
    weights = load_official(path) if path.is_file() else read_weights(path)
    if weights.card.aggregator is None:
        raise InputError(
            f"{path}: holds a backbone but no aggregator; it turns images into features "
            "(configs/extract.py), a trained model turns these into descriptors"
        )
    return Aggregator(weights["aggregator"]["params"], weights.card.aggregator, str(path))


def load_training_faces(config) -> "TrainingFaces":
    """What a run trains on, on all devices: features, or images where `config.backbone.weights` is given.

    Args:
      config: checked configuration.

    Raises:
      InputError: bad data or weights.
    """
    from fpsset.data.sources import training_images, training_table
    from fpsset.parallel.mesh import data_mesh
    from fpsset.training.faces import faces_of_table
    from fpsset.training.images import faces_of_images

    mesh = data_mesh()
    if not config.backbone.weights:
        return faces_of_table(config, training_table(config.data, config.seed), mesh)
    from fpsset.data.image_pipeline import read_crop
    from fpsset.extraction.color_order import check_color_order
    from fpsset.extraction.recognisers import backbone_recogniser, load_backbone
    from fpsset.models.iresnet import IMAGE_SIZE

    source = training_images(config.data)
    card, variables = load_backbone(config.backbone, "config.backbone")
    if config.backbone.check_color_order:
        recogniser = backbone_recogniser(card, variables, config.backbone.dtype)
        check_color_order(source.subject, lambda row: read_crop(source, row, IMAGE_SIZE), recogniser)
    return faces_of_images(config, source, card, variables, mesh)
