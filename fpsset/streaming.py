"""A set that arrives face by face and is not kept: a summary of M representatives that stand for all.

The summary is a cover of the faces seen (incremental k-center, the doubling algorithm of Charikar, Chekuri,
Feder and Motwani, STOC 1997). A face within a threshold t of a representative joins it; any other becomes
one itself. When there are more than M, t grows by the factor b until those that now lie within t of another,
and join it, leave M. With distances |u - v| of unit embeddings:

- Of M + 1 faces more than t apart two share a center in any cover by M, so the best cover by M has a radius
  of at least t / 2.
- A face moves by at most the threshold each time its representative joins another, so it lies within
  t (1 + 1/b + 1/b^2 + ...) = t b / (b - 1) of the one that now stands for it.

Together the radius is at most 2 b^2 / (b - 1) times the best one's: 8 for b = 2, where it is smallest. Faces
alike, such as the frames of a clip, share a representative however many they are; how many counts in the
attention, where it is the same as so many equal faces, but takes no room from others.
"""

import os
import pathlib

import numpy as np

from fpsset.aggregator import Aggregator
from fpsset.blocks import attend_to
from fpsset.data.feature_table import unit_rows
from fpsset.data.files import read_npz
from fpsset.errors import InputError
from fpsset.face_set import FaceSet
from fpsset.files import replacing
from fpsset.models.face_coreset_net import Coreset

_ARRAYS = ("centers", "norms", "counts", "features", "norm_sums", "picks", "pick_norms")
_FIELDS = (*_ARRAYS, "threshold", "faces", "size", "growth")
_SPARE = 64  # runners-up kept of each pick
_SAME = 1e-3  # faces nearer than this are one from the start: float16 rounds by as much


class StreamingAggregator:
    """The descriptor of a stream of faces of one person, at any time, in fixed memory.

    Up to M different faces it is the batch's descriptor; of more it comes near. The growth of 2 has the
    best worst case, but typical faces are all about equally far apart, and so large a step joins most.

    Attributes:
      model: the aggregator.
      size: M.
      faces: how many have arrived.
      threshold: t; every face lies within `growth / (growth - 1)` times it of its representative, and no
        cover by M has a radius below `threshold / (2 growth)`.
    """

    def __init__(self, model: Aggregator, size: int = 256, growth: float = 1.1):
        """An empty summary.

        Args:
          model: whose descriptors are wanted.
          size: M >= K, the representatives at most.
          growth: b > 1, of the threshold.

        Raises:
          InputError: an argument is out of range.
        """
        if size < model.model.coreset_size or not growth > 1:
            raise InputError(
                f"size {size}, growth {growth}: must be at least {model.model.coreset_size} and above 1"
            )
        self.model, self.size, self.growth = model, size, growth
        self.faces, self.threshold = 0, 0.0
        self._centers = np.zeros((0, model.dim), np.float32)  # faces that are representatives
        self._norms = np.zeros(0, np.float32)  # theirs
        self._counts = np.zeros(0)  # faces each stands for
        self._features = np.zeros((0, model.dim), np.float32)  # sums of their n u
        self._norm_sums = np.zeros(0)  # and of their n
        self._picks = np.zeros((0, model.dim), np.float32)  # the coreset so far, runners-up behind it
        self._pick_norms = np.zeros(0, np.float32)

    def __len__(self) -> int:
        """Representatives held."""
        return len(self._counts)

    def update(self, embeddings: np.ndarray, norms: np.ndarray) -> "StreamingAggregator":
        """Takes faces in and keeps none but representatives.

        Args:
          embeddings: [n, D], or [D] for one face; brought to unit length.
          norms: [n], or a number, as the backbone gave them.

        Returns:
          self.

        Raises:
          InputError: malformed faces; nothing of them is taken.
        """
        embeddings = np.atleast_2d(np.asarray(embeddings))
        embeddings, norms = unit_rows(embeddings, np.atleast_1d(np.asarray(norms)), "faces")
        if embeddings.shape[1] != self.model.dim:
            raise InputError(f"faces: are {embeddings.shape[1]} wide; the model takes {self.model.dim}")
        norms = norms * np.float32(self.model.norm_scale)
        for start in range(0, len(norms), self.size):
            part = slice(start, start + self.size)
            unit, lengths = embeddings[part], norms[part]
            self._pick(unit, lengths)
            self._add(unit, lengths, np.ones(len(unit)), lengths[:, None] * unit, lengths.astype(np.float64))
        return self

    def merge(self, other: "StreamingAggregator") -> "StreamingAggregator":
        """Takes in all that another has seen, which stays as it is.

        Raises:
          InputError: it is of another model, size or growth.
        """
        if other.model.digest != self.model.digest:
            raise InputError(
                f"a summary of the model {other.model.digest} cannot join one of {self.model.digest}"
            )
        if (other.size, other.growth) != (self.size, self.growth):
            raise InputError(
                f"summaries of sizes {self.size} and {other.size}, growths {self.growth} and {other.growth}: "
                "must agree to be merged"
            )
        self.threshold = max(self.threshold, other.threshold)
        if other.faces:
            self._pick(
                np.concatenate([other._picks, other._centers]),
                np.concatenate([other._pick_norms, other._norms]),
            )
            self._add(other._centers, other._norms, other._counts, other._features, other._norm_sums)
        return self

    def descriptor(self) -> tuple[np.ndarray, np.float32]:
        """Of all faces so far: ([D] float32 unit, norm).

        Raises:
          InputError: no face has arrived.
        """
        if not self.faces:
            raise InputError("no face has arrived; there is nothing to describe")
        size, slots, held = self.model.model.coreset_size, self.size, len(self)
        valid = np.arange(size) < len(self._picks)
        core = np.zeros((size, self.model.dim), np.float32)
        core[valid] = self._pick_norms[:size, None] * self._picks[:size]
        # The attention sees each representative as its faces' mean, as often as they are.
        part = FaceSet(
            np.zeros((slots, self.model.dim), np.float32),
            np.zeros(slots, np.float32),
            np.arange(slots) < held,
            counts=np.zeros(slots, np.float32),
        )
        part.embeddings[:held] = self._features / np.maximum(self._norm_sums, 1e-30)[:, None]
        part.norms[:held] = self._norm_sums / self._counts
        part.counts[:held] = self._counts
        coreset = Coreset(valid.astype(np.int32) - 1, valid, core)
        return attend_to(self.model.model, self.model.variables, coreset, [part])

    def save(self, path: str | os.PathLike) -> None:
        """Writes the summary as an `.npz` of plain arrays, beside and then renamed."""
        values = {name: getattr(self, f"_{name}") for name in _ARRAYS}
        values |= {name: np.array(getattr(self, name)) for name in _FIELDS if name not in _ARRAYS}
        with replacing(pathlib.Path(path)) as beside, beside.open("wb") as file:
            np.savez(file, **values, model=np.array(self.model.digest))

    @classmethod
    def load(cls, path: str | os.PathLike, model: Aggregator) -> "StreamingAggregator":
        """Reads what `save` wrote.

        Args:
          path: the file.
          model: the aggregator that it was made with.

        Raises:
          InputError: the file is missing or malformed, or another model's.
        """
        path = pathlib.Path(path)
        values = read_npz(path, (*_FIELDS, "model"))
        if missing := [name for name in (*_FIELDS, "model") if name not in values]:
            raise InputError(f"{path}: no column '{missing[0]}'; it is no summary of fpsset")
        if str(values["model"]) != model.digest:
            raise InputError(
                f"{path}: was made with the model {values['model']}, not with {model.digest}; "
                "start anew from the faces"
            )
        summary = cls(model, int(values["size"]), float(values["growth"]))
        summary.faces, summary.threshold = int(values["faces"]), float(values["threshold"])
        for name in _ARRAYS:
            setattr(summary, f"_{name}", values[name])
        return summary

    def _pick(self, embeddings: np.ndarray, norms: np.ndarray) -> None:
        """Farthest-point sampling among the picks so far, the representatives and new faces.

        While the picks before it stay, a pick is the one among all faces; when one of them changes, what
        came earlier is seen through the runners-up of each pick and the representatives.
        """
        unit = np.concatenate([self._picks, self._centers, embeddings])
        norms = np.concatenate([self._pick_norms, self._norms, norms])
        weight = norms ** np.float32(self.model.variables["params"]["gamma"])
        picks, distance = [int(norms.argmax())], np.full(len(norms), np.inf, np.float32)
        spare = [_largest(norms)]
        while len(picks) < self.model.model.coreset_size:
            apart = np.square(unit - unit[picks[-1]]).sum(axis=1) / 4
            distance = np.minimum(distance, weight * apart)
            farthest = int(distance.argmax())
            if distance[farthest] <= 0:  # what is left are the picks again
                spare = []
                break
            picks.append(farthest)
            spare.append(_largest(distance))
        rows = np.concatenate([picks, np.setdiff1d(spare, picks)]).astype(np.int64)
        self._picks, self._pick_norms = unit[rows], norms[rows]

    def _add(self, centers, norms, counts, features, norm_sums) -> None:
        """Faces, or representatives with what they stand for, join the nearest within reach or stay apart."""
        self.faces += int(counts.sum())
        held = len(self)
        for name, new in zip(_ARRAYS, (centers, norms, counts, features, norm_sums), strict=False):
            setattr(self, f"_{name}", np.concatenate([getattr(self, f"_{name}"), new]))
        self._join(_squared(self._centers[held:], self._centers), held)
        while len(self) > self.size:
            squared = _squared(self._centers, self._centers)
            apart = squared[np.triu_indices(len(squared), 1)].min()
            self.threshold = max(self.growth * self.threshold, float(np.sqrt(apart)))
            self._join(squared, 0)

    def _join(self, squared: np.ndarray, held: int) -> None:
        """Rows from `held` on, whose squared distances to all are given, join an earlier one or stay."""
        near = squared <= max(self.threshold, _SAME) ** 2
        kept, covered = np.zeros(near.shape[1], bool), near[:, :held].any(axis=1)
        kept[:held] = True
        for row in range(len(near)):
            if not covered[row]:
                kept[held + row] = True
                covered |= near[:, held + row]
        places = np.flatnonzero(kept)
        owner = np.append(np.arange(held), np.argmin(squared[:, places], axis=1))
        for name in ("counts", "features", "norm_sums"):
            rows = getattr(self, f"_{name}")
            total = np.zeros((len(places), *rows.shape[1:]), rows.dtype)
            total[:held] = rows[:held]
            np.add.at(total, owner[held:], rows[held:])
            setattr(self, f"_{name}", total)
        self._centers, self._norms = self._centers[places], self._norms[places]


def _largest(scores: np.ndarray) -> np.ndarray:
    """Places of the `_SPARE` largest."""
    return np.argpartition(-scores, min(_SPARE, len(scores)) - 1)[:_SPARE]


def _squared(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared distances of unit rows: [n, D], [m, D] -> [n, m]."""
    return np.maximum(2 - 2 * left @ right.T, 0)
