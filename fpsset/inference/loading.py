"""From what is on disk to a model ready to call."""

import os

from fpsset.errors import InputError
from fpsset.inference.aggregator import Aggregator
from fpsset.runtime.files import as_path
from fpsset.weights.cards import is_weights, read_weights
from fpsset.weights.official import load_official


def load(path: str | os.PathLike) -> Aggregator:
    """Loads a trained model.

    Args:
      path: a workdir (its best checkpoint), its `checkpoints` folder, one checkpoint in that, a folder
        that `fpsset convert` wrote, or a published FaceCoresetNet checkpoint itself.

    Raises:
      InputError: there is no aggregator.

    Example:
      >>> import numpy as np, fpsset
      >>> model = fpsset.load("runs/quickstart")
      >>> faces = np.random.default_rng(0).normal(size=(6, model.dim))
      >>> found = model.aggregate(faces, set_ids=[0, 0, 0, 1, 1, 1])
      >>> found.ids.tolist()
      [0, 1]
    """
    path = as_path(path)
    if not (path.is_file() or is_weights(path)):
        from fpsset.weights.trained import read_params  # Orbax takes seconds to import

        return Aggregator(*read_params(path))
    weights = load_official(path) if path.is_file() else read_weights(path)
    if weights.card.aggregator is None:
        raise InputError(
            f"{path}: holds a backbone but no aggregator; it turns images into features "
            "(configs/extract.py), a trained model turns these into descriptors"
        )
    return Aggregator(weights["aggregator"]["params"], weights.card.aggregator, str(path))
