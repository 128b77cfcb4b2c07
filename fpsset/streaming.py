"""A set that arrives face by face and is not kept: a summary of M representatives that stand for all.

Faces alike, such as the frames of a clip, share a representative however many they are (`Cover`); how many
counts in the attention, where it is the same as so many equal faces, but takes no room from others. The
coreset is picked among the faces as they arrive (`RunningPicks`).
"""

import os
import pathlib

import numpy as np

from fpsset.aggregator import Aggregator
from fpsset.blocks import attend_to
from fpsset.cover import Cover
from fpsset.data.feature_table import unit_rows
from fpsset.data.files import read_npz
from fpsset.errors import InputError
from fpsset.face_set import FaceSet
from fpsset.files import replacing
from fpsset.models.face_coreset_net import Coreset
from fpsset.running_picks import RunningPicks

_COVER = ("centers", "norms", "sums", "reach")
_RUNNERS = ("faces", "norms", "scores")
_COLUMNS = (
    *("size", "growth", "faces", "threshold", "least_radius", "model"),
    *(f"cover_{name}" for name in _COVER),
    *("picks", "pick_norms", "runner_counts"),
    *(f"runner_{name}" for name in _RUNNERS),
)


class StreamingAggregator:
    """The descriptor of a stream of faces of one person, at any time, in fixed memory.

    Up to M different faces, and at least K, it is the batch's descriptor; of more it comes near, or differs
    by a pick: see `fpsset.running_picks`. Beside M representatives, M runners-up of each pick but the first
    are held: for M = 256 and K = 3, 2.6 MB in all.

    Attributes:
      model: the aggregator.
      size: M.
      faces: how many have arrived.
    """

    def __init__(self, model: Aggregator, size: int = 256, growth: float = 1.1):
        """An empty summary.

        Args:
          model: whose descriptors are wanted.
          size: M >= K, the representatives at most.
          growth: b > 1, by which the reach of representatives grows where they are too many. The radius is
            at most 2 b^2 / (b - 1) times the least possible: 24 for 1.1, and 8 for 2, where that is least.

        Raises:
          InputError: an argument is out of range.
        """
        if size < model.model.coreset_size or not growth > 1:
            raise InputError(
                f"size {size}, growth {growth}: must be at least {model.model.coreset_size} and above 1"
            )
        self.model, self.size, self.growth, self.faces = model, size, growth, 0
        gamma = model.variables["params"]["gamma"]
        self._picks = RunningPicks(model.model.coreset_size, size, gamma, model.dim)
        # Summed over the faces that a representative stands for: 1, n, and n u.
        self._cover = Cover(size, growth, model.dim, 2 + model.dim)

    def __len__(self) -> int:
        """Representatives held."""
        return len(self._cover)

    @property
    def radius(self) -> float:
        """Every face lies within it of its representative, in distances |u - v| of unit embeddings."""
        return float(self._cover.reach.max(initial=0))

    @property
    def least_radius(self) -> float:
        """No M representatives of these faces have a smaller radius; 0 while M suffice for all."""
        return self._cover.least_radius

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
            unit, lengths = embeddings[start : start + self.size], norms[start : start + self.size]
            self._picks.add(unit, lengths, (self._cover.centers, self._cover.norms))
            sums = np.empty((len(unit), 2 + self.model.dim), np.float32)
            sums[:, 0], sums[:, 1], sums[:, 2:] = 1, lengths, lengths[:, None] * unit
            self._cover.add(unit, lengths, sums, 0)
        self.faces += len(norms)
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
        mine, theirs = self._cover, other._cover
        if other.faces:
            for faces in (other._picks.known(), (theirs.centers, theirs.norms)):
                self._picks.add(*faces, (mine.centers, mine.norms))
            mine.merge(theirs)
        self.faces += other.faces
        return self

    def descriptor(self) -> tuple[np.ndarray, np.float32]:
        """Of all faces so far: ([D] float32 unit, norm).

        Raises:
          InputError: no face has arrived.
        """
        if not self.faces:
            raise InputError("no face has arrived; there is nothing to describe")
        size, slots, held = self.model.model.coreset_size, self.size, len(self)
        picks, lengths = self._picks.faces, self._picks.norms
        valid = np.arange(size) < len(picks)
        core = np.zeros((size, self.model.dim), np.float32)
        core[valid] = lengths[:, None] * picks
        # The attention sees each representative as its faces' mean, as often as they are.
        part = FaceSet(
            np.zeros((slots, self.model.dim), np.float32),
            np.zeros(slots, np.float32),
            np.arange(slots) < held,
            counts=np.zeros(slots, np.float32),
        )
        counts, norm_sums, features = np.split(self._cover.sums, [1, 2], axis=1)
        part.embeddings[:held] = features / np.maximum(norm_sums, 1e-30)
        part.norms[:held] = (norm_sums / counts)[:, 0]
        part.counts[:held] = counts[:, 0]
        coreset = Coreset(valid.astype(np.int32) - 1, valid, core)
        return attend_to(self.model.model, self.model.variables, coreset, [part])

    def save(self, path: str | os.PathLike) -> None:
        """Writes the summary as an `.npz` of plain arrays, beside and then renamed."""
        cover, picks = self._cover, self._picks
        values = {name: getattr(self, name) for name in ("size", "growth", "faces", "least_radius")}
        values |= {"threshold": cover.threshold, "model": self.model.digest}
        values |= {f"cover_{name}": getattr(cover, name) for name in _COVER}
        values |= {"picks": picks.faces, "pick_norms": picks.norms}
        for name in _RUNNERS:
            values[f"runner_{name}"] = np.concatenate([getattr(slot, name) for slot in picks.runners])
        values["runner_counts"] = np.array([len(slot.norms) for slot in picks.runners])
        with replacing(pathlib.Path(path)) as beside, beside.open("wb") as file:
            np.savez(file, **values)

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
        values = read_npz(path, _COLUMNS)
        if missing := [name for name in _COLUMNS if name not in values]:
            raise InputError(f"{path}: no column '{missing[0]}'; it is no summary of fpsset")
        if str(values["model"]) != model.digest:
            raise InputError(
                f"{path}: was made with the model {values['model']}, not with {model.digest}; "
                "start anew from the faces"
            )
        summary = cls(model, int(values["size"]), float(values["growth"]))
        summary.faces, cover = int(values["faces"]), summary._cover
        cover.add(*(values[f"cover_{name}"] for name in _COVER))
        cover.threshold, cover.least_radius = float(values["threshold"]), float(values["least_radius"])
        picks, ends = summary._picks, np.cumsum(values["runner_counts"])[:-1]
        picks.faces, picks.norms = values["picks"], values["pick_norms"]
        parts = zip(*(np.split(values[f"runner_{name}"], ends) for name in _RUNNERS), strict=True)
        for slot, part in zip(picks.runners, parts, strict=True):
            slot.put(*part)
        return summary
