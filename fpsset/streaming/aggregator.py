"""A set that arrives face by face and is not kept: a summary of M representatives that stand for all.

Faces alike, such as the frames of a clip, share a representative however many they are (`KCenter`). The
coreset is picked among the faces as they arrive (`RunningPicks`). The attention sees the representatives, as
often as there are faces of each, while they are all the different faces; beyond, it sees a uniform sample of
the faces (`UniformSample`), in which clips have the weight that they have in the stream.
"""

import os
import pathlib
import zlib

import numpy as np

from fpsset.data.files import read_npz
from fpsset.errors import InputError
from fpsset.face_set import FaceSet, unit_rows
from fpsset.inference.aggregator import Aggregator
from fpsset.inference.out_of_core import attend_to
from fpsset.models.face_coreset_net import Coreset
from fpsset.runtime.files import replacing
from fpsset.streaming.k_center import KCenter
from fpsset.streaming.running_picks import RunningPicks
from fpsset.streaming.uniform_sample import UniformSample

_COVER = ("centers", "norms", "counts", "reach")
_PICKS = ("faces", "norms", "scores")
_SAMPLE = ("faces", "norms", "keys")
_COLUMNS = (
    *("size", "growth", "faces", "threshold", "least_radius", "model"),
    *(f"cover_{name}" for name in _COVER),
    *(f"pick_{name}" for name in _PICKS),
    *(f"runner_{name}" for name in (*_PICKS, "counts")),
    *(f"sample_{name}" for name in _SAMPLE),
)


class StreamingAggregator:
    """The descriptor of a stream of faces of one person, at any time, in fixed memory.

    Up to M different faces it equals the batch's descriptor without media; beyond, it approximates it or
    differs by a pick (see `fpsset.streaming.running_picks`). Besides M representatives it holds 2 M
    runners-up for each pick after the first and 8 M faces drawn at random: 7.5 MB for M = 256, K = 3 and
    D = 512.

    Attributes:
      aggregator: whose descriptors it gives.
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
        if size < model.module.coreset_size or not growth > 1:
            raise InputError(
                f"size {size}, growth {growth}: must be at least {model.module.coreset_size} and above 1"
            )
        if not model.dim:
            raise InputError(
                "the plain model keeps no stream; sum norm times unit embedding of each face instead"
            )
        self.aggregator, self.size, self.growth, self.faces = model, size, growth, 0
        gamma = model.variables["params"]["gamma"]
        self._picks = RunningPicks(model.module.coreset_size, 2 * size, gamma, model.dim)
        self._k_center = KCenter(size, growth, model.dim)
        self._sample = UniformSample(8 * size, model.dim)

    def __len__(self) -> int:
        """Representatives held."""
        return len(self._k_center)

    @property
    def radius(self) -> float:
        """Every face lies within it of its representative, in distances |u - v| of unit embeddings."""
        return float(self._k_center.reach.max(initial=0))

    @property
    def least_radius(self) -> float:
        """No M representatives of these faces have a smaller radius; 0 while M suffice for all."""
        return self._k_center.least_radius

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
        if embeddings.shape[1] != self.aggregator.dim:
            raise InputError(f"faces: are {embeddings.shape[1]} wide; the model takes {self.aggregator.dim}")
        norms = norms * np.float32(self.aggregator.norm_scale)
        for start in range(0, len(norms), self.size):
            unit, lengths = embeddings[start : start + self.size], norms[start : start + self.size]
            self._picks.add(unit, lengths, (self._k_center.centers, self._k_center.norms))
            self._k_center.add(unit, lengths)
            # By place and content: streams that will be merged must not draw the same places.
            rng = np.random.default_rng([self.faces, zlib.crc32(unit[0])])
            self._sample.add(unit, lengths, rng.random(len(unit)))
            self.faces += len(unit)
        return self

    def merge(self, other: "StreamingAggregator") -> "StreamingAggregator":
        """Takes in all that another has seen, which stays as it is.

        Raises:
          InputError: it is of another model, size or growth.
        """
        if other.aggregator.digest != self.aggregator.digest:
            raise InputError(
                f"a summary of the model {other.aggregator.digest} cannot join one of "
                f"{self.aggregator.digest}"
            )
        if (other.size, other.growth) != (self.size, self.growth):
            raise InputError(
                f"summaries of sizes {self.size} and {other.size}, growths {self.growth} and {other.growth}: "
                "must agree to be merged"
            )
        mine, theirs = self._k_center, other._k_center
        if other.faces:
            for faces in (other._picks.known(), (theirs.centers, theirs.norms)):
                self._picks.add(*faces, (mine.centers, mine.norms))
            mine.merge(theirs)
            self._sample.add(other._sample.faces, other._sample.norms, other._sample.keys)
        self.faces += other.faces
        return self

    def descriptor(self) -> tuple[np.ndarray, np.float32]:
        """Of all faces so far: ([D] float32 unit, norm).

        Raises:
          InputError: no face has arrived.
        """
        if not self.faces:
            raise InputError("no face has arrived; there is nothing to describe")
        size, picks = self.aggregator.module.coreset_size, self._picks
        cover, sample = self._k_center, self._sample
        valid = np.arange(size) < len(picks.norms)
        core = np.zeros((size, self.aggregator.dim), np.float32)
        core[valid] = picks.norms[:, None] * picks.faces
        coreset = Coreset(valid.astype(np.int32) - 1, valid, core)
        if cover.threshold == 0:  # the representatives are all the different faces
            faces, norms, counts = cover.centers, cover.norms, cover.counts
        else:
            faces, norms, counts = sample.faces, sample.norms, np.ones(len(sample.norms))
        spare = (0, 8 * self.size - len(norms))
        part = FaceSet(
            np.pad(faces, (spare, (0, 0))),
            np.pad(norms, spare),
            np.pad(np.ones(len(norms), bool), spare),
            multiplicity=np.pad(counts, spare).astype(np.float32),
        )
        return attend_to(self.aggregator.module, self.aggregator.variables, coreset, [part])

    def save(self, path: str | os.PathLike) -> None:
        """Writes the summary as an `.npz` of plain arrays, beside and then renamed."""
        cover, picks = self._k_center, self._picks
        values = {name: getattr(self, name) for name in ("size", "growth", "faces", "least_radius")}
        values |= {"threshold": cover.threshold, "model": self.aggregator.digest}
        values |= {f"cover_{name}": getattr(cover, name) for name in _COVER}
        values |= {f"sample_{name}": getattr(self._sample, name) for name in _SAMPLE}
        for name in _PICKS:
            values[f"pick_{name}"] = getattr(picks, name)
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
        summary.faces, cover = int(values["faces"]), summary._k_center
        cover.add(*(values[f"cover_{name}"] for name in _COVER))
        cover.threshold, cover.least_radius = float(values["threshold"]), float(values["least_radius"])
        summary._sample.add(*(values[f"sample_{name}"] for name in _SAMPLE))
        picks, ends = summary._picks, np.cumsum(values["runner_counts"])[:-1]
        picks.faces, picks.norms, picks.scores = (values[f"pick_{name}"] for name in _PICKS)
        parts = zip(*(np.split(values[f"runner_{name}"], ends) for name in _PICKS), strict=True)
        for slot, part in zip(picks.runners, parts, strict=True):
            slot.put(*part)
        return summary
