"""A trained model, ready to call on NumPy arrays."""

import os
import pathlib

import numpy as np

from fpsset.errors import InputError
from fpsset.evaluation.descriptors import describe
from fpsset.face_set import RaggedSets, group_rows
from fpsset.models.face_coreset_net import FaceCoresetNet


class Aggregator:
    """Turns ragged sets of embeddings into one descriptor each, and tells which faces were chosen.

    Attributes:
      model: the linen module.
      variables: its variables.
      dim: D, the width of embeddings it takes.
      norm_scale: factor applied to norms before the model sees them.
    """

    def __init__(self, model: FaceCoresetNet, variables: dict, dim: int, norm_scale: float = 1.0):
        """See the class; `load` makes one from a checkpoint."""
        self.model, self.variables, self.dim, self.norm_scale = model, variables, dim, norm_scale

    def aggregate(
        self, embeddings: np.ndarray, norms: np.ndarray, set_ids: np.ndarray, return_coreset: bool = False
    ):
        """One descriptor for each unique set id, ids sorted as by `np.unique`.

        Args:
          embeddings: [M, D] float; brought to unit length.
          norms: [M], >= 0, as the backbone gave them.
          set_ids: [M] integers or strings, the set of each row.
          return_coreset: also return which rows were chosen.

        Returns:
          (descriptors [S, D] float32 unit, norms [S] float32), and with `return_coreset` a third
          array [S, K] int64 of row numbers, -1 where a set has fewer than K faces.

        Raises:
          InputError: arrays that disagree, of another width than the checkpoint's, or with
            impossible values.
        """
        embeddings, norms, set_ids = np.asarray(embeddings), np.asarray(norms), np.asarray(set_ids)
        if embeddings.ndim != 2 or not len(embeddings) == len(norms) == len(set_ids) > 0:
            raise InputError(
                "embeddings [M, D], norms [M] and set_ids [M] disagree or are empty: "
                f"{embeddings.shape}, {norms.shape}, {set_ids.shape}"
            )
        if embeddings.shape[1] != self.dim:
            raise InputError(f"embeddings are {embeddings.shape[1]} wide; the model takes {self.dim}")
        embeddings = embeddings.astype(np.float32)
        lengths = np.linalg.norm(embeddings, axis=1)
        for bad, problem in (
            (~np.isfinite(lengths) | (lengths == 0), "its embedding is zero or not finite"),
            (~(np.isfinite(norms) & (norms >= 0)), "its norm is negative or not finite"),
        ):
            if bad.any():
                raise InputError(f"row {int(np.argmax(bad))}: {problem}; leave it out")
        _, sets = group_rows(embeddings / lengths[:, None], norms.astype(np.float32), set_ids)
        out = describe({"fpsset": self.model}, {"fpsset": self.variables}, self.scaled(sets))["fpsset"]
        if return_coreset:
            return out.vectors, out.norms, out.coreset
        return out.vectors, out.norms

    def scaled(self, sets: RaggedSets) -> RaggedSets:
        """The sets with norms as the model wants them."""
        return sets._replace(norms=sets.norms * np.float32(self.norm_scale))


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

    params, card = read_params(pathlib.Path(path))
    model = FaceCoresetNet(coreset_size=card.coreset_size, num_heads=card.num_heads)
    return Aggregator(model, {"params": params}, card.dim, card.norm_scale)
