"""A trained model, ready to call on NumPy arrays."""

import functools
import os

import numpy as np

from fpsset.errors import InputError
from fpsset.face_set import RaggedSets, group_rows, unit_rows
from fpsset.inference.descriptors import describe_one
from fpsset.inference.explanation import Explanation, explain
from fpsset.inference.galleries import Gallery, read_gallery, write_gallery
from fpsset.inference.out_of_core import Blocks, aggregate_blocks
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.models.pooling import PlainCoreset
from fpsset.runtime.digests import tree_digest
from fpsset.weights.cards import AggregatorCard

# Slots from which a set is split over the devices, where there are several. By the rates in docs/scale.md a
# device takes 7.5 ns a face (K = 3 reads of 2 kB at 819 GB/s) and the dozen messages of a split 120 us: two
# devices save as much from 32,000 faces on, eight from 18,000. Not so on CPU devices, which share their cores
# and memory: eight on two cores took 212 ms for 65,536 faces and one 131.
_SPLIT_FROM = 1 << 16


class Aggregator:
    """Turns ragged sets of embeddings into one descriptor each, and tells which faces were chosen.

    Attributes:
      module: the linen module.
      variables: its variables.
      dim: D, the width of embeddings it takes; 0 for any.
      norm_scale: factor applied to norms before the model sees them.
      by_media: whether frames of one medium weigh as one face, where media are told.
      backbone: digest of the backbone that its embeddings come from; empty when not known.
      train_fingerprint: of the faces it was trained on; empty when not known.
      name: where the model comes from, for messages.
    """

    def __init__(self, params: dict, card: AggregatorCard, name: str = "model"):
        """Of the parameters of a `FaceCoresetNet`; `fpsset.load` makes one from a checkpoint."""
        self.module = FaceCoresetNet(
            card.coreset_size, card.num_heads, quality=card.quality, by_media=card.by_media
        )
        self.variables = {"params": params}
        self.dim, self.norm_scale, self.by_media = card.dim, card.norm_scale, card.by_media
        self.backbone = card.backbone
        self.train_fingerprint, self.name = card.train_fingerprint, name

    @functools.cached_property
    def digest(self) -> str:
        """Names the model: equal ones give descriptors that can be compared."""
        parts = [self.variables, self.module.coreset_size, self.norm_scale]
        return tree_digest([*parts, 1.0] if self.by_media else parts)

    def aggregate(
        self,
        embeddings: np.ndarray,
        norms: np.ndarray,
        set_ids: np.ndarray,
        return_coreset: bool = False,
        media: np.ndarray | None = None,
    ):
        """One descriptor for each unique set id, ids sorted as by `np.unique`.

        A set of more than 32,768 faces is split over all devices of this process, where there are several.

        Args:
          embeddings: [M, D] float; brought to unit length.
          norms: [M], >= 0, as the backbone gave them.
          set_ids: [M] integers or strings, the set of each row.
          return_coreset: also return which rows were chosen.
          media: optional [M] integers or strings, the still or video that each face comes from. By the
            default recipe the frames of one video then weigh as one face; without, each weighs by itself.

        Returns:
          (descriptors [S, D] float32 unit, norms [S] float32), and with `return_coreset` a third
          array [S, K] int64 of row numbers, -1 where a set has fewer than K faces.

        Raises:
          InputError: arrays that disagree, of another width than the checkpoint's, or with
            impossible values.
        """
        set_ids = np.asarray(set_ids)
        embeddings, norms = self._checked(embeddings, norms)
        if set_ids.shape != norms.shape:
            raise InputError(f"set_ids must be [{len(norms)}], one a row; they are {list(set_ids.shape)}")
        _check_media(media, len(norms))
        if media is not None:
            media = np.unique(media, return_inverse=True)[1]
        _, sets = group_rows(embeddings, norms, set_ids, media)
        out = describe_one(self.module, self.variables, self.scaled(sets), split_from=_SPLIT_FROM)
        if return_coreset:
            return out.vectors, out.norms, out.coreset
        return out.vectors, out.norms

    def aggregate_blocks(self, blocks: Blocks, return_coreset: bool = False):
        """The descriptor of one set that need not fit in memory: K + 1 times through its blocks.

        The first time reads the norms alone, the last for the attention; memory does not grow with the set.
        It is not told media: the descriptor is that of `aggregate` without them.

            faces, norms = np.load("faces.npy", mmap_mode="r"), np.load("norms.npy")
            parts = [slice(start, start + 8192) for start in range(0, len(norms), 8192)]
            descriptor, norm = model.aggregate_blocks([(faces[part], norms[part]) for part in parts])

        Args:
          blocks: pairs (embeddings [n, D], norms [n]) as `aggregate` takes them, of any sizes: an iterable
            that can be read again, or a function without arguments that starts anew.
          return_coreset: also return which faces were chosen.

        Returns:
          (descriptor [D] float32 unit, norm), and with `return_coreset` a third, [K] int64 of places in the
          set, -1 where it has fewer than K faces.

        Raises:
          InputError: blocks that can be read once only, that change, or are malformed; no face.
        """
        out = aggregate_blocks(self.module, self.variables, blocks, self.dim, self.norm_scale)
        return out if return_coreset else out[:2]

    def explain(
        self,
        embeddings: np.ndarray,
        norms: np.ndarray,
        media: np.ndarray | None = None,
        leave_one_out: bool = True,
    ) -> Explanation:
        """Tells why the descriptor of one set is what it is; see `Explanation`.

        Args:
          embeddings: [N, D] float, N >= 1; brought to unit length.
          norms: [N], >= 0, as the backbone gave them.
          media: optional [N], as of `aggregate`.
          leave_one_out: also run the model without each face, which costs N sets of N faces.

        Raises:
          InputError: as of `aggregate`.
        """
        embeddings, norms = self._checked(embeddings, norms)
        _check_media(media, len(norms))
        return explain(self.module, self.variables, embeddings, norms, media, self.norm_scale, leave_one_out)

    def _checked(self, embeddings: np.ndarray, norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        embeddings = np.asarray(embeddings)
        if self.dim and embeddings.ndim == 2 and embeddings.shape[1] != self.dim:
            raise InputError(f"embeddings are {embeddings.shape[1]} wide; the model takes {self.dim}")
        return unit_rows(embeddings, norms, "input")

    def scaled(self, sets: RaggedSets) -> RaggedSets:
        """The sets with norms as the model wants them."""
        return sets._replace(norms=sets.norms * np.float32(self.norm_scale))

    def save_gallery(self, path: str | os.PathLike, ids: np.ndarray, descriptors, norms) -> None:
        """Writes descriptors of this model, to be compared later with others of it.

        Args:
          path: an `.npz`.
          ids: [S], whose each is.
          descriptors: [S, D], as `aggregate` gave them.
          norms: [S].
        """
        write_gallery(path, Gallery(np.asarray(ids), np.asarray(descriptors), np.asarray(norms)), self.digest)

    def load_gallery(self, path: str | os.PathLike) -> Gallery:
        """Reads what `save_gallery` wrote: (ids [S], descriptors [S, D], norms [S]).

        Raises:
          InputError: the file is missing or malformed, or another model's.
        """
        return read_gallery(path, self.digest)


def _check_media(media: np.ndarray | None, rows: int) -> None:
    if media is not None and np.shape(media) != (rows,):
        raise InputError(f"media must be [{rows}], one a row; they are {list(np.shape(media))}")


class PlainAggregator(Aggregator):
    """An aggregator without anything learned, for embeddings of any width.

    The picks are those of farthest-point sampling with the exponent that the paper's training arrived at;
    the descriptor is the norm-weighted mean of all faces.
    """

    def __init__(self, coreset_size: int = 3, gamma: float = 0.35):
        """With K picks, and `gamma` as the exponent of the norm in the metric."""
        self.module = PlainCoreset(coreset_size, gamma)
        self.variables = {"params": {"gamma": np.float32(gamma)}}
        self.dim, self.norm_scale, self.by_media, self.backbone = 0, 1.0, False, ""
        self.train_fingerprint = ""
        self.name = f"plain: nothing learned, gamma {gamma:g}, norm-weighted mean"

    def aggregate_blocks(self, blocks: Blocks, return_coreset: bool = False):
        """Not of this one: raises InputError."""
        raise InputError(
            "the plain model takes sets as a whole; of blocks its descriptor is the sum of norm times unit "
            "embedding, brought to unit length"
        )
