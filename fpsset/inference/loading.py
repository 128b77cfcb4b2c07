"""Loads a trained model from disk."""

import os

from fpsset.errors import InputError
from fpsset.inference.aggregator import Aggregator
from fpsset.runtime.files import as_path
from fpsset.weights.cards import is_weights, read_weights
from fpsset.weights.official import load_official


def load(path: str | os.PathLike) -> Aggregator:
    """Loads a trained model.

    Args:
      path: a workdir (its best checkpoint is used), its `checkpoints` folder, one checkpoint in that folder,
        a folder that `fpsset convert` wrote, or a published FaceCoresetNet checkpoint file.

    Returns:
      An aggregator, ready to call on NumPy arrays.

    Raises:
      InputError: there is no model at `path`, or it is a backbone without an aggregator.

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
            f"{path}: holds a backbone but no aggregator; use it to turn images into features "
            "(configs/extract.py), and give a trained model to turn those into descriptors"
        )
    return Aggregator(weights["aggregator"]["params"], weights.card.aggregator, str(path))
