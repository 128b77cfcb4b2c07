"""A set model ready to call on NumPy arrays: ragged sets in, descriptors and the faces chosen out."""

import functools
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fpsset.errors import InputError
from fpsset.face_set import FaceSet, RaggedSets, group_rows, pad_sets, unit_rows
from fpsset.inference.descriptors import describe_one
from fpsset.inference.explanation import Explanation, explain
from fpsset.inference.galleries import Gallery, read_gallery, write_gallery
from fpsset.inference.out_of_core import Blocks, BlocksAggregated, aggregate_blocks
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.models.pooling import PlainCoreset
from fpsset.models.set_model import SetModel
from fpsset.runtime.digests import tree_digest
from fpsset.weights.cards import AggregatorCard

# Slots from which a set is split over the devices, where there are several. By the rates in docs/scale.md a
# device takes 7.5 ns a face (K = 3 reads of 2 kB at 819 GB/s) and the dozen messages of a split 120 us: two
# devices save as much from 32,000 faces on, eight from 18,000. Not so on CPU devices, which share their cores
# and memory: eight on two cores took 212 ms for 65,536 faces and one 131.
_SPLIT_FROM = 1 << 16


class Aggregated(NamedTuple):
    """Descriptors of S sets, by rising id."""

    ids: np.ndarray  # [S] unique set ids, sorted
    descriptors: np.ndarray  # [S, D] float32 unit rows
    norms: np.ndarray  # [S] float32, lengths of the descriptors before normalisation
    coreset: np.ndarray  # [S, K] int64 rows chosen, -1 where a set has fewer than K faces

    def __repr__(self) -> str:
        sets, dim = self.descriptors.shape
        return f"Aggregated({sets} sets, descriptors {dim} wide, {self.coreset.shape[1]} picks each)"


class SetAggregator:
    """What trained and plain aggregators share: a set model with its variables and the embeddings it takes.

    Attributes:
      module: the linen module.
      variables: its variables.
      dim: D, the width of embeddings it takes; 0 for any.
      norm_scale: factor applied to norms before the model sees them.
      by_media: whether the frames of a medium weigh as one face, where media are known.
      backbone: digest of the backbone that its embeddings come from; empty when not known.
      train_fingerprint: of the faces it was trained on; empty when not known.
      name: where the model comes from, for messages.
    """

    module: SetModel
    variables: dict
    dim: int = 0
    norm_scale: float = 1.0
    by_media: bool = False
    backbone: str = ""
    train_fingerprint: str = ""
    name: str = "model"

    def __repr__(self) -> str:
        width = f"{self.dim} wide" if self.dim else "any width"
        return f"{type(self).__name__}({self.name!r}, {self.module.coreset_size} picks, embeddings {width})"

    @functools.cached_property
    def digest(self) -> str:
        """Names the model; descriptors can be compared if their models' digests are equal."""
        parts = [self.variables, self.module.coreset_size, self.norm_scale]
        return tree_digest([*parts, 1.0] if self.by_media else parts)

    def aggregate(
        self,
        embeddings: np.ndarray,
        norms: np.ndarray | None = None,
        set_ids: np.ndarray | None = None,
        *,
        media: np.ndarray | None = None,
    ) -> Aggregated:
        """One descriptor for each unique set id.

        A set of more than 32,768 faces is split over all devices of this process, where there are several.

        Args:
          embeddings: [M, D] float; brought to unit length.
          norms: [M], >= 0, as the backbone gave them; the lengths of the embeddings when None.
          set_ids: [M] integers or strings, the set of each row; all rows are one set, 0, when None.
          media: optional [M] integers or strings, the still or video that each face comes from. By the
            default recipe the frames of a video then weigh as one face; without, each weighs by itself. Pass
            them for every set that you compare, or for none.

        Returns:
          Aggregated, its sets sorted by id.

        Raises:
          InputError: arrays that disagree, embeddings of another width than the model's, impossible values,
            or no norms where all embeddings have length 1.

        Example:
          >>> import numpy as np, fpsset
          >>> faces = np.random.default_rng(0).normal(size=(5, 8))
          >>> found = fpsset.PlainAggregator(coreset_size=2).aggregate(faces, set_ids=[7, 7, 7, 4, 4])
          >>> found
          Aggregated(2 sets, descriptors 8 wide, 2 picks each)
          >>> found.ids.tolist(), found.coreset.max(axis=1).tolist()
          ([4, 7], [4, 2])
        """
        embeddings, norms = self._checked(embeddings, norms)
        set_ids = np.zeros(len(norms), np.int64) if set_ids is None else np.asarray(set_ids)
        if set_ids.shape != norms.shape:
            raise InputError(f"set_ids must be [{len(norms)}], one a row; they are {list(set_ids.shape)}")
        ids, sets = group_rows(embeddings, norms, set_ids, _numbered(media, len(norms)))
        out = describe_one(self.module, self.variables, self.scaled(sets), split_from=_SPLIT_FROM)
        return Aggregated(ids, out.vectors, out.norms, out.coreset)

    def aggregate_blocks(self, blocks: Blocks) -> BlocksAggregated:
        """The descriptor of one set that need not fit in memory, from K + 1 passes over its blocks.

        The first pass reads the norms alone, the last is for the attention; memory does not grow with the
        set. Media are not considered: the descriptor equals that of `aggregate` without them.

        Args:
          blocks: pairs (embeddings [n, D], norms [n]) of any sizes, as `aggregate` takes them: an iterable
            that can be read again, or a function without arguments that starts anew.

        Raises:
          InputError: blocks that can be read only once, that change, or are malformed; no face.

        Example:
          >>> import numpy as np, fpsset
          >>> faces = np.random.default_rng(0).normal(size=(100, 8))
          >>> norms = np.linalg.norm(faces, axis=1)
          >>> parts = [slice(start, start + 30) for start in range(0, 100, 30)]
          >>> model = fpsset.PlainAggregator()
          >>> found = model.aggregate_blocks([(faces[part], norms[part]) for part in parts])
          >>> bool(np.allclose(found.descriptor, model.aggregate(faces).descriptors[0], atol=1e-6))
          True
        """
        return aggregate_blocks(self.module, self.variables, blocks, self.dim, self.norm_scale)

    def explain(
        self,
        embeddings: np.ndarray,
        norms: np.ndarray | None = None,
        *,
        media: np.ndarray | None = None,
        leave_one_out: bool = True,
    ) -> Explanation:
        """Why the descriptor of one set is what it is.

        Args:
          embeddings: [N, D] float, N >= 1; brought to unit length.
          norms: [N], >= 0, as the backbone gave them; the lengths of the embeddings when None.
          media: optional [N] integers or strings, as in `aggregate`.
          leave_one_out: also describe the set without each face, which costs N sets of N faces.

        Raises:
          InputError: see `aggregate`.
        """
        embeddings, norms = self._checked(embeddings, norms)
        _numbered(media, len(norms))
        return explain(self.module, self.variables, embeddings, norms, media, self.norm_scale, leave_one_out)

    def pad(
        self,
        embeddings_list: Sequence[np.ndarray],
        norms_list: Sequence[np.ndarray] | None = None,
        *,
        media_list: Sequence[np.ndarray] | None = None,
        size: int | None = None,
    ) -> FaceSet:
        """Ragged sets as one padded `FaceSet` for `module.apply(variables, ...)`, norms scaled for it.

        Args:
          embeddings_list: B arrays [N_b, D] float; brought to unit length.
          norms_list: B arrays [N_b], as the backbone gave them; lengths of the embeddings when None.
          media_list: B arrays [N_b] of integers or strings.
          size: slots per set; the largest set's size when None.

        Raises:
          InputError: see `aggregate`.
          ValueError: see `pad_sets`.
        """
        norms_list = [None] * len(embeddings_list) if norms_list is None else norms_list
        checked = [self._checked(*pair) for pair in zip(embeddings_list, norms_list, strict=True)]
        if media_list is not None:
            media_list = [
                _numbered(media, len(norms)) for media, (_, norms) in zip(media_list, checked, strict=True)
            ]
        scaled = [norms * np.float32(self.norm_scale) for _, norms in checked]
        return pad_sets([embeddings for embeddings, _ in checked], scaled, size, media_list)

    def scaled(self, sets: RaggedSets) -> RaggedSets:
        """The sets with norms as the model wants them."""
        return sets._replace(norms=sets.norms * np.float32(self.norm_scale))

    def save_gallery(self, path: str | os.PathLike, ids: np.ndarray, descriptors, norms) -> None:
        """Writes descriptors of this model, to be compared later with others of it.

        Args:
          path: an `.npz` file.
          ids: [S] integers or strings, who each shows.
          descriptors: [S, D], as `aggregate` gave them.
          norms: [S].
        """
        write_gallery(path, Gallery(np.asarray(ids), np.asarray(descriptors), np.asarray(norms)), self.digest)

    def load_gallery(self, path: str | os.PathLike) -> Gallery:
        """Reads what `save_gallery` wrote: (ids [S], descriptors [S, D], norms [S]).

        Raises:
          InputError: the file is missing or malformed, or another model made it.
        """
        return read_gallery(path, self.digest)

    def _checked(self, embeddings, norms) -> tuple[np.ndarray, np.ndarray]:
        embeddings = np.asarray(embeddings)
        if self.dim and embeddings.ndim == 2 and embeddings.shape[1] != self.dim:
            raise InputError(f"embeddings are {embeddings.shape[1]} wide; the model takes {self.dim}")
        return unit_rows(embeddings, norms, "input")


def _numbered(media, rows: int) -> np.ndarray | None:
    """Media ids as integers [M]; raises InputError where they are of another shape."""
    if media is None:
        return None
    if np.shape(media) != (rows,):
        raise InputError(f"media must be [{rows}], one a row; they are {list(np.shape(media))}")
    return np.unique(media, return_inverse=True)[1]


class Aggregator(SetAggregator):
    """A trained FaceCoresetNet; `fpsset.load` makes one from a checkpoint.

    Example:
      >>> import jax, numpy as np, fpsset
      >>> from fpsset.weights.cards import AggregatorCard
      >>> net = fpsset.FaceCoresetNet(num_heads=1)
      >>> sets = fpsset.pad_sets([np.eye(8, dtype="f")[:4]], [np.ones(4)])
      >>> params = net.init(jax.random.key(0), sets)["params"]
      >>> model = fpsset.Aggregator(params, AggregatorCard(3, 1, dim=8, norm_scale=1.0), "untrained")
      >>> model
      Aggregator('untrained', 3 picks, embeddings 8 wide)
      >>> model.aggregate(3 * np.eye(8)).coreset.tolist()
      [[0, 1, 2]]
    """

    def __init__(self, params: dict, card: AggregatorCard, name: str = "model"):
        """An aggregator from the parameters of a `FaceCoresetNet`.

        Args:
          params: the tree under 'params'.
          card: the architecture, and the embeddings that it takes.
          name: where it comes from, for messages.
        """
        self.module = FaceCoresetNet(
            card.coreset_size, card.num_heads, quality=card.quality, by_media=card.by_media
        )
        self.variables = {"params": params}
        self.dim, self.norm_scale, self.by_media = card.dim, card.norm_scale, card.by_media
        self.backbone, self.train_fingerprint, self.name = card.backbone, card.train_fingerprint, name


class PlainAggregator(SetAggregator):
    """An aggregator without anything learned, for embeddings of any width.

    It picks by farthest-point sampling; the descriptor is the norm-weighted mean of all faces.

    Example:
      >>> import numpy as np, fpsset
      >>> model = fpsset.PlainAggregator(coreset_size=1)
      >>> found = model.aggregate(np.array([[3.0, 0, 0], [0, 4, 0]]))
      >>> found.descriptors.round(1).tolist(), found.coreset.tolist()
      ([[0.6, 0.8, 0.0]], [[1]])
    """

    def __init__(self, coreset_size: int = 3, gamma: float = 0.35):
        """With K picks, and `gamma` as the exponent of the norm in the metric."""
        self.module = PlainCoreset(coreset_size, gamma)
        self.variables = {"params": {"gamma": np.float32(gamma)}}
        self.name = f"plain: nothing learned, gamma {gamma:g}, norm-weighted mean"
