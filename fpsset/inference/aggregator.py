"""Set models that take NumPy arrays: ragged sets in, descriptors and picks out."""

import functools
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from fpsset.data.rows import unit_rows
from fpsset.errors import InputError
from fpsset.face_set import FaceSet, RaggedSets, group_rows, pad_sets
from fpsset.inference.checks import numbered, require_coreset_size, require_descriptors, scaled_norms
from fpsset.inference.descriptors import describe_one
from fpsset.inference.explanation import Explanation, explain
from fpsset.inference.galleries import Gallery, read_gallery, write_gallery
from fpsset.inference.out_of_core import Blocks, BlocksAggregated, aggregate_blocks
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.models.pooling import PLAIN_POOLINGS, PlainCoreset, WhitenedMedia
from fpsset.models.posterior import PosteriorPooling
from fpsset.models.set_model import SetModel
from fpsset.ops.metric import DEFAULT_GAMMA
from fpsset.runtime.digests import tree_digest
from fpsset.weights.cards import AggregatorCard, Weights, WeightsCard, save_weights

# Minimum number of slots for splitting a set over several devices. By the rates in docs/scale.md a device
# takes 7.5 ns per face (K = 3 reads of 2 kB at 819 GB/s), and the dozen messages of a split take 120 us:
# splitting breaks even at 32,000 faces on two devices and at 18,000 on eight. It does not pay on CPU devices,
# which share their cores and memory: for 65,536 faces, eight devices on two cores took 212 ms and one took
# 131 ms.
_SPLIT_FROM = 1 << 16


_SCALED_MEAN = 20.0  # to which fits scale norms, unless a config says otherwise


class Aggregated(NamedTuple):
    """Descriptors of S sets, sorted by id."""

    ids: np.ndarray  # [S] unique set ids, sorted
    descriptors: np.ndarray  # [S, D] float32 unit rows
    norms: np.ndarray  # [S] float32, lengths of the descriptors before normalisation
    coreset: np.ndarray  # [S, K] int64 picked rows of the input, -1 where a set has fewer than K faces

    def __repr__(self) -> str:
        sets, dim = self.descriptors.shape
        return f"Aggregated({sets} sets, descriptors {dim} wide, {self.coreset.shape[1]} picks each)"


class SetAggregator:
    """Base class of trained and plain aggregators: a set model with its variables.

    Attributes:
      module: the linen module.
      variables: the module's variables.
      dim: D, the width of the embeddings that the model takes; 0 for any.
      norm_scale: factor applied to norms before the model sees them.
      by_media: whether all faces of one medium count as one face, if media are given.
      backbone: digest of the backbone that computes the embeddings; empty if unknown.
      train_fingerprint: fingerprint of the training faces; empty if unknown.
      name: where the model comes from, for messages.
    """

    module: SetModel
    variables: dict
    card: AggregatorCard
    dim: int = 0
    norm_scale: float = 1.0
    by_media: bool = False
    backbone: str = ""
    train_fingerprint: str = ""
    name: str = "model"

    def __repr__(self) -> str:
        width = f"{self.dim} wide" if self.dim else "any width"
        return f"{type(self).__name__}({self.name!r}, {self.module.coreset_size} picks, embeddings {width})"

    @property
    def typical_norm(self) -> float | None:
        """Mean norm of the faces that the model was fitted to, as their backbone gave it; None if unknown."""
        scaled = self.train_fingerprint and self.norm_scale != 1
        return _SCALED_MEAN / self.norm_scale if scaled else None

    @functools.cached_property
    def digest(self) -> str:
        """Identifies the model: descriptors can be compared only if their models' digests are equal."""
        parts = [self.variables, self.module.coreset_size, self.norm_scale]
        parts += [1.0] * self.by_media + [2.0] * self.module.ignores_norms
        if self.card.model in PLAIN_POOLINGS:
            parts += [3.0 + PLAIN_POOLINGS.index(self.card.model)]
        return tree_digest(parts)

    def aggregate(
        self,
        embeddings: np.ndarray,
        norms: np.ndarray | None = None,
        set_ids: np.ndarray | None = None,
        *,
        media: np.ndarray | None = None,
    ) -> Aggregated:
        """Computes one descriptor for each unique set id.

        Sets of more than 32,768 faces are split over all devices of this process, if there are several.

        Args:
          embeddings: [M, D] float; normalised to unit length.
          norms: [M] >= 0, as the backbone returned them; the lengths of the embeddings when None.
          set_ids: [M] integers or strings, the set of each row; when None, all rows form one set with id 0.
          media: optional [M] integers or strings, the still or video that each face comes from. If the model
            is `by_media`, as fitted ones are, all frames of a video then count as one face; otherwise every
            face counts by itself. Pass `media` for every set that you compare, or for none.

        Returns:
          Aggregated, its sets sorted by id.

        Raises:
          InputError: the arrays disagree, the embeddings do not have the model's width, a row is zero, not
            finite or has a norm out of range, `norms` is None although all embeddings have length 1, or a set
            has no descriptor (all its norms are zero).

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
            raise InputError(f"set_ids must be [{len(norms)}], one per row; they are {list(set_ids.shape)}")
        ids, sets = group_rows(embeddings, norms, set_ids, numbered(media, len(norms)))
        out = describe_one(self.module, self.variables, self.scaled(sets), split_from=_SPLIT_FROM)
        require_descriptors(out.vectors, out.norms, ids)
        return Aggregated(ids, out.vectors, out.norms, out.coreset)

    def aggregate_blocks(self, blocks: Blocks) -> BlocksAggregated:
        """Computes the descriptor of one set that need not fit in memory, in K + 1 passes over its blocks.

        The first pass reads only the norms; the last computes the attention. Memory does not grow with the
        set. Media are ignored: the descriptor equals that of `aggregate` without `media`.

        Args:
          blocks: pairs (embeddings [n, D], norms [n]) with any n, as for `aggregate`. Either an iterable that
            can be iterated several times, such as a list, or a function that returns a new iterator.

        Returns:
          BlocksAggregated.

        Raises:
          InputError: the blocks can be read only once, change between passes, are malformed, or have no
            faces.

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
        """Explains the descriptor of one set.

        Args:
          embeddings: [N, D] float, N >= 1; normalised to unit length.
          norms: [N] >= 0, as the backbone returned them; the lengths of the embeddings when None.
          media: optional [N] integers or strings, see `aggregate`.
          leave_one_out: also aggregate the set without each face, which costs as much as N sets of N faces.

        Returns:
          Explanation.

        Raises:
          InputError: see `aggregate`.
        """
        embeddings, norms = self._checked(embeddings, norms)
        numbered(media, len(norms))
        return explain(self.module, self.variables, embeddings, norms, media, self.norm_scale, leave_one_out)

    def pad(
        self,
        embeddings_list: Sequence[np.ndarray],
        norms_list: Sequence[np.ndarray] | None = None,
        *,
        media_list: Sequence[np.ndarray] | None = None,
        size: int | None = None,
    ) -> FaceSet:
        """Pads ragged sets into one `FaceSet` for `module.apply(variables, ...)`, with norms scaled for it.

        Args:
          embeddings_list: B arrays [N_b, D] float; normalised to unit length.
          norms_list: B arrays [N_b] >= 0, as the backbone returned them; the lengths of the embeddings when
            None.
          media_list: B arrays [N_b] of integers or strings.
          size: slots per set; the size of the largest set when None.

        Returns:
          FaceSet of NumPy arrays, embeddings [B, size, D] float32.

        Raises:
          InputError: see `aggregate`.
          ValueError: see `pad_sets`.
        """
        norms_list = [None] * len(embeddings_list) if norms_list is None else norms_list
        checked = [self._checked(*pair) for pair in zip(embeddings_list, norms_list, strict=True)]
        if media_list is not None:
            media_list = [
                numbered(media, len(norms)) for media, (_, norms) in zip(media_list, checked, strict=True)
            ]
        scaled = [scaled_norms(norms, self.norm_scale, "input") for _, norms in checked]
        return pad_sets([embeddings for embeddings, _ in checked], scaled, size, media_list)

    def scaled(self, sets: RaggedSets) -> RaggedSets:
        """The sets with their norms multiplied by `norm_scale`, as the model expects them."""
        return sets._replace(norms=scaled_norms(sets.norms, self.norm_scale, "input"))

    def save(self, path: str | os.PathLike) -> None:
        """Writes the model as a folder that `fpsset.load` reads.

        Args:
          path: the folder; replaced if it holds a saved model.

        Raises:
          InputError: `path` exists and holds anything else.
        """
        variables = jax.tree.map(np.asarray, self.variables)
        card = WeightsCard("fpsset", self.name, "", "", {}, (), None, self.card)
        save_weights(pathlib.Path(path), Weights({"aggregator": variables}, card))

    def save_gallery(self, path: str | os.PathLike, ids: np.ndarray, descriptors, norms) -> None:
        """Saves descriptors computed by this model as a gallery.

        Args:
          path: the `.npz` file to write.
          ids: [S] integers or strings, the identity of each descriptor.
          descriptors: [S, D], as returned by `aggregate`.
          norms: [S], as returned by `aggregate`.

        Raises:
          InputError: the ids are neither integers nor strings, or there is not exactly one per descriptor.
        """
        write_gallery(path, Gallery(np.asarray(ids), np.asarray(descriptors), np.asarray(norms)), self.digest)

    def load_gallery(self, path: str | os.PathLike) -> Gallery:
        """Reads a gallery that `save_gallery` wrote: (ids [S], descriptors [S, D], norms [S]).

        Raises:
          InputError: the file is missing or malformed, or its descriptors were computed by another model.
        """
        return read_gallery(path, self.digest)

    def _checked(self, embeddings, norms) -> tuple[np.ndarray, np.ndarray]:
        embeddings = np.asarray(embeddings)
        if self.dim and embeddings.ndim == 2 and embeddings.shape[1] != self.dim:
            raise InputError(f"embeddings are {embeddings.shape[1]} wide; the model takes {self.dim}")
        return unit_rows(embeddings, norms, "input")


def _module_of(card: AggregatorCard, params: dict) -> SetModel:
    """The linen module that a card describes."""
    require_coreset_size(card.coreset_size)
    match card.model:
        case "face_coreset_net":
            return FaceCoresetNet(
                card.coreset_size, card.num_heads, quality=card.quality, by_media=card.by_media
            )
        case "posterior":
            return PosteriorPooling(card.coreset_size, ignores_norms=card.ignores_norms)
        case "whitened":
            return WhitenedMedia(card.coreset_size, ignores_norms=card.ignores_norms)
        case "plain":
            return PlainCoreset(card.coreset_size, float(params["gamma"]))
        case model if model in PLAIN_POOLINGS:
            return PlainCoreset(card.coreset_size, float(params["gamma"]), pooling=model)
    raise InputError(f"the model is {card.model!r}, which this version of fpsset does not know; upgrade it")


class Aggregator(SetAggregator):
    """A fitted or trained model; `fpsset.fit` and `fpsset.load` make one.

    Example:
      >>> import jax, numpy as np, fpsset
      >>> from fpsset.weights.cards import AggregatorCard, Weights, WeightsCard, save_weights
      >>> net = fpsset.FaceCoresetNet(num_heads=1)
      >>> sets = fpsset.pad_sets([np.eye(8, dtype="f")[:4]], [np.ones(4)])
      >>> params = jax.jit(net.init)(jax.random.key(0), sets)["params"]
      >>> model = fpsset.Aggregator(params, AggregatorCard(3, 1, dim=8, norm_scale=1.0), "untrained")
      >>> model
      Aggregator('untrained', 3 picks, embeddings 8 wide)
      >>> model.aggregate(3 * np.eye(8)).coreset.tolist()
      [[0, 1, 2]]
    """

    def __init__(self, params: dict, card: AggregatorCard, name: str = "model"):
        """Creates an aggregator from the parameters of its model.

        Args:
          params: the tree under 'params'.
          card: the architecture, and the embeddings that the model takes.
          name: where the model comes from, for messages.
        """
        self.module = _module_of(card, params)
        self.variables, self.card = {"params": params}, card
        self.dim, self.norm_scale, self.by_media = card.dim, card.norm_scale, card.by_media
        self.backbone, self.train_fingerprint, self.name = card.backbone, card.train_fingerprint, name


class PlainAggregator(SetAggregator):
    """An aggregator with nothing learned, for embeddings of any width.

    It picks by farthest-point sampling. The descriptor is the norm-weighted mean of all faces, or another
    plain pooling.

    Example:
      >>> import numpy as np, fpsset
      >>> model = fpsset.PlainAggregator(coreset_size=1)
      >>> found = model.aggregate(np.array([[3.0, 0, 0], [0, 4, 0]]))
      >>> found.descriptors.round(1), found.coreset.tolist()
      (array([[0.6, 0.8, 0. ]], dtype=float32), [[1]])
    """

    def __init__(self, coreset_size: int = 3, gamma: float = DEFAULT_GAMMA, pooling: str = "norm_weighted"):
        """Creates an aggregator.

        Args:
          coreset_size: K, the number of picks per set, >= 1.
          gamma: exponent of the norm in the metric.
          pooling: 'mean', of unit embeddings; 'norm_weighted', of norm times embedding; 'media_mean', that
            mean within each medium and then over media; 'fps', the norm-weighted mean of the picks alone.

        Raises:
          InputError: there is no such pooling, or K < 1.
        """
        require_coreset_size(coreset_size)
        if pooling not in PLAIN_POOLINGS:
            raise InputError(f"the pooling is {pooling!r}; it must be one of {', '.join(PLAIN_POOLINGS)}")
        self.module = PlainCoreset(coreset_size, gamma, pooling=pooling)
        self.variables = {"params": {"gamma": np.float32(gamma)}}
        plain = pooling == "norm_weighted"
        self.by_media = pooling == "media_mean"
        self.card = AggregatorCard(
            coreset_size, 1, 0, 1.0, by_media=self.by_media, model="plain" if plain else pooling
        )
        words = "norm-weighted mean" if plain else pooling
        self.name = f"{'plain' if plain else pooling}: nothing learned, gamma {gamma:g}, {words}"
