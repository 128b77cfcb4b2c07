"""Validation of a model on people that training does not see."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from fpsset.data.feature_table import FeatureTable, templates
from fpsset.errors import InputError
from fpsset.evaluation.evaluator import validation_tar
from fpsset.evaluation.metric_names import far_of, tar_name
from fpsset.evaluation.verification import all_pairs, reachable_far
from fpsset.face_set import RaggedSets
from fpsset.inference.descriptors import Descriptors, describe_one
from fpsset.runtime.device_errors import within_memory


class Validation:
    """TAR on held-out people at the configured FAR, or at the next higher one that their pairs can measure.

    Each person's media are divided into two templates, whatever templates the data has.

    Attributes:
      metric: name of the score.
      model: the set model whose parameters are scored.
    """

    def __init__(self, model: nn.Module, held_out: FeatureTable, config: ConfigDict):
        """Pairs the templates of the held-out people.

        Raises:
          InputError: there are too few pairs.
        """
        _, self._subjects, self._sets = templates(dataclasses.replace(held_out, template=None))
        self._pairs = all_pairs(self._subjects)
        fix = "raise config.data.holdout, or provide more people"
        if not self._pairs.same.any():
            raise InputError(f"{held_out.name}: no held-out person has two media to compare; {fix}")
        try:
            self._far = reachable_far(self._pairs, far_of(config.evaluation.metric))
        except InputError as error:
            raise InputError(f"{held_out.name}: of the held-out people {error}; {fix}") from error
        self.metric = f"validation_{tar_name(self._far)}"
        self.model = model.clone(dtype=jnp.float32) if hasattr(model, "dtype") else model  # as at inference
        self._batching = {
            "faces_per_batch": config.evaluation.faces_per_batch,
            "packed": config.evaluation.packed,
        }

    def score(self, params: dict, show: Callable[[np.ndarray, RaggedSets, Descriptors], None]) -> float:
        """TAR of the aggregator's parameters; calls `show` with subjects, sets and descriptors."""
        with within_memory("config.evaluation.faces_per_batch"):
            described = describe_one(self.model, {"params": params}, self._sets, **self._batching)
        show(self._subjects, self._sets, described)
        return validation_tar(described, self._pairs, self._far)
