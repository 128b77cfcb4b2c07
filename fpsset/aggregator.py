"""A trained model, ready to call on NumPy arrays."""

import numpy as np

from fpsset.data.feature_table import unit_rows
from fpsset.descriptors import describe
from fpsset.errors import InputError
from fpsset.face_set import RaggedSets, group_rows
from fpsset.models.face_coreset_net import FaceCoresetNet


class Aggregator:
    """Turns ragged sets of embeddings into one descriptor each, and tells which faces were chosen.

    Attributes:
      model: the linen module.
      variables: its variables.
      dim: D, the width of embeddings it takes.
      norm_scale: factor applied to norms before the model sees them.
      name: where the model comes from, for messages.
    """

    def __init__(
        self, model: FaceCoresetNet, variables: dict, dim: int, norm_scale: float = 1.0, name: str = "model"
    ):
        """See the class; `fpsset.load` makes one from a checkpoint."""
        self.model, self.variables, self.dim = model, variables, dim
        self.norm_scale, self.name = norm_scale, name

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
        embeddings, set_ids = np.asarray(embeddings), np.asarray(set_ids)
        if embeddings.ndim == 2 and embeddings.shape[1] != self.dim:
            raise InputError(f"embeddings are {embeddings.shape[1]} wide; the model takes {self.dim}")
        embeddings, norms = unit_rows(embeddings, norms, "input")
        if set_ids.shape != norms.shape:
            raise InputError(f"set_ids must be [{len(norms)}], one a row; they are {list(set_ids.shape)}")
        _, sets = group_rows(embeddings, norms, set_ids)
        out = describe({"fpsset": self.model}, {"fpsset": self.variables}, self.scaled(sets))["fpsset"]
        if return_coreset:
            return out.vectors, out.norms, out.coreset
        return out.vectors, out.norms

    def scaled(self, sets: RaggedSets) -> RaggedSets:
        """The sets with norms as the model wants them."""
        return sets._replace(norms=sets.norms * np.float32(self.norm_scale))
