"""From a checkpoint on disk to a model ready to call."""

import os
import pathlib

from fpsset.aggregator import Aggregator
from fpsset.models.face_coreset_net import FaceCoresetNet


def load(path: str | os.PathLike) -> Aggregator:
    """Loads a trained model.

    Args:
      path: a workdir (its best checkpoint), its `checkpoints` folder, or one checkpoint in that.

    Returns:
      Aggregator.

    Raises:
      InputError: there is no checkpoint of this package.
    """
    from fpsset.training.checkpoints import read_params  # Orbax takes seconds to import

    params, card, name = read_params(pathlib.Path(path))
    model = FaceCoresetNet(coreset_size=card.coreset_size, num_heads=card.num_heads)
    return Aggregator(model, {"params": params}, card.dim, card.norm_scale, name)
