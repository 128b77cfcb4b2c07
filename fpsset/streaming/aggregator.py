"""The descriptor of a stream of faces that are not kept, from a summary of fixed size.

Nearly equal faces, such as the frames of a clip, share a representative, however many they are (`KCenter`).
The coreset is picked among the faces as they arrive (`RunningPicks`). While the representatives are all the
different faces there are, the attention sees them, each weighted by the faces it stands for; beyond, it sees
a uniform sample of the faces (`UniformSample`), in which clips weigh as much as they do in the stream. Where
the picks ask nothing, as in the plain model, the sums over all faces are kept instead, and nothing is lost.
"""

import os
import pathlib
import zlib

import numpy as np

from fpsset.data.files import read_npz
from fpsset.errors import InputError
from fpsset.face_set import FaceSet, unit_rows
from fpsset.inference.aggregator import SetAggregator
from fpsset.inference.out_of_core import descriptor_of_parts, descriptor_of_sums, sums_of_part
from fpsset.models.selector import Coreset
from fpsset.ops.attention import AttentionSums, merge
from fpsset.runtime.files import replacing
from fpsset.streaming.k_center import KCenter
from fpsset.streaming.running_picks import RunningPicks
from fpsset.streaming.uniform_sample import UniformSample

# Columns of a saved summary, as KCenter, RunningPicks and UniformSample give their state.
_NUMBERS = ("size", "growth", "faces", "model")
_K_CENTER = {
    "threshold": "threshold",
    "least_radius": "least_radius",
    **{name: f"cover_{name}" for name in ("centers", "norms", "counts", "reach")},
}
_PICKS = (
    *(f"pick_{name}" for name in ("faces", "norms", "scores")),
    *(f"runner_{name}" for name in ("faces", "norms", "scores", "counts")),
)
_SAMPLE = {name: f"sample_{name}" for name in ("faces", "norms", "keys")}
_SUMS = {name: f"sum_{name}" for name in AttentionSums._fields}  # where the model's picks ask nothing
_COLUMNS = (*_NUMBERS, *_K_CENTER.values(), *_PICKS, *_SAMPLE.values())


class StreamingAggregator:
    """The descriptor of a stream of faces of one person, at any time, in fixed memory.

    Up to M different faces it equals the batch's descriptor without media; beyond, it approximates it or
    differs by a pick (see `fpsset.streaming.running_picks`). Besides M representatives it holds 2 M
    runners-up for each pick after the first and 8 M faces drawn at random: 7.5 MB for M = 256, K = 3 and
    D = 512.

    Attributes:
      aggregator: whose descriptors it gives.
      size: M.
      growth: by which the reach of representatives grows.
      faces: how many have arrived.

    Example:
      >>> import numpy as np, fpsset
      >>> stream = fpsset.StreamingAggregator(fpsset.PlainAggregator(), size=8)
      >>> frames = np.random.default_rng(0).normal(size=(6, 4))
      >>> for frame in frames:
      ...     _ = stream.update(frame)
      >>> stream
      StreamingAggregator(6 faces, 6 of 8 representatives)
      >>> descriptor, norm = stream.descriptor()
      >>> batch = stream.aggregator.aggregate(frames)
      >>> bool(np.allclose(descriptor, batch.descriptors[0], atol=1e-6))
      True
    """

    def __init__(self, aggregator: SetAggregator, size: int = 256, growth: float = 1.1):
        """An empty summary.

        Args:
          aggregator: whose descriptors are wanted.
          size: M >= K, the largest number of representatives.
          growth: b > 1, by which the reach of representatives grows when there are too many. The radius is at
            most 2 b^2 / (b - 1) times the least possible: 24 for 1.1, and 8 for 2, where that is least.

        Raises:
          InputError: an argument is out of range.
        """
        if size < aggregator.module.coreset_size or not growth > 1:
            raise InputError(
                f"size {size}, growth {growth}: must be at least {aggregator.module.coreset_size} and above 1"
            )
        self.aggregator, self.size, self.growth, self.faces = aggregator, size, growth, 0
        self._dim = 0
        if aggregator.dim:
            self._begin(aggregator.dim)

    def _begin(self, dim: int) -> None:
        """Makes room for embeddings of a width that is now known."""
        self._dim, size = dim, self.size
        self._picks = RunningPicks(self.aggregator.module.coreset_size, 2 * size, self._gamma, dim)
        self._k_center = KCenter(size, self.growth, dim)
        self._sample = UniformSample(8 * size, dim)
        self._sums: AttentionSums | None = None

    @property
    def _gamma(self) -> float:
        return self.aggregator.variables["params"]["gamma"]

    def __len__(self) -> int:
        """Representatives held."""
        return len(self._k_center) if self._dim else 0

    def __repr__(self) -> str:
        return f"StreamingAggregator({self.faces} faces, {len(self)} of {self.size} representatives)"

    @property
    def radius(self) -> float:
        """Every face lies within it of its representative, in distances |u - v| of unit embeddings."""
        return float(self._k_center.reach.max(initial=0)) if self._dim else 0.0

    @property
    def least_radius(self) -> float:
        """No M representatives of these faces have a smaller radius; 0 while M suffice for all."""
        return self._k_center.least_radius if self._dim else 0.0

    def update(
        self, embeddings: np.ndarray, norms: np.ndarray | float | None = None
    ) -> "StreamingAggregator":
        """Takes faces in; of these it keeps representatives alone.

        Args:
          embeddings: [n, D], or [D] for one face; brought to unit length.
          norms: [n], or a number, as the backbone gave them; the lengths of the embeddings when None.

        Returns:
          self.

        Raises:
          InputError: malformed faces; none of them is taken.
        """
        norms = None if norms is None else np.atleast_1d(np.asarray(norms))
        embeddings, norms = unit_rows(np.atleast_2d(np.asarray(embeddings)), norms, "faces")
        if not self._dim:
            self._begin(embeddings.shape[1])
        if embeddings.shape[1] != self._dim:
            raise InputError(f"faces: are {embeddings.shape[1]} wide; the model takes {self._dim}")
        norms = norms * np.float32(self.aggregator.norm_scale)
        for start in range(0, len(norms), self.size):
            unit, lengths = embeddings[start : start + self.size], norms[start : start + self.size]
            self._picks.add(unit, lengths, (self._k_center.centers, self._k_center.norms))
            self._k_center.add(unit, lengths)
            # Seeded by place and content: streams that will be merged must not draw the same keys.
            rng = np.random.default_rng([self.faces, zlib.crc32(unit[0])])
            self._sample.add(unit, lengths, rng.random(len(unit)))
            self.faces += len(unit)
            if not self.aggregator.module.picks_ask:
                part = _padded(unit, lengths, np.ones(len(unit)), self.size)
                self._sums = sums_of_part(*self._model, self._coreset(), part, self._sums)
        return self

    def merge(self, other: "StreamingAggregator") -> "StreamingAggregator":
        """Takes in all that another summary has seen; the other stays as it is.

        Raises:
          InputError: it is of another model, size or growth.
        """
        mine, theirs = self.aggregator.digest, other.aggregator.digest
        if mine != theirs:
            raise InputError(f"a summary made with the model {theirs} cannot join one made with {mine}")
        if (other.size, other.growth) != (self.size, self.growth):
            raise InputError(
                f"summaries of sizes {self.size} and {other.size}, growths {self.growth} and {other.growth}: "
                "must agree to be merged"
            )
        if other.faces:
            if not self._dim:
                self._begin(other._dim)
            mine, theirs = self._k_center, other._k_center
            for faces in (other._picks.known(), (theirs.centers, theirs.norms)):
                self._picks.add(*faces, (mine.centers, mine.norms))
            mine.merge(theirs)
            self._sample.add(other._sample.faces, other._sample.norms, other._sample.keys)
            if other._sums is not None:
                self._sums = other._sums if self._sums is None else merge(self._sums, other._sums)
        self.faces += other.faces
        return self

    def descriptor(self) -> tuple[np.ndarray, np.float32]:
        """Of all faces so far: ([D] float32 unit, norm).

        Raises:
          InputError: no face has arrived.
        """
        if not self.faces:
            raise InputError("no face has arrived; there is nothing to describe")
        if self._sums is not None:
            return descriptor_of_sums(*self._model, self._coreset(), self._sums)
        k_center, sample = self._k_center, self._sample
        if k_center.threshold == 0:  # the representatives are all the different faces
            faces = k_center.centers, k_center.norms, k_center.counts
        else:
            faces = sample.faces, sample.norms, np.ones(len(sample.norms))
        return descriptor_of_parts(*self._model, self._coreset(), [_padded(*faces, 8 * self.size)])

    @property
    def _model(self) -> tuple:
        return self.aggregator.module, self.aggregator.variables

    def _coreset(self) -> Coreset:
        """The picks so far, places unknown."""
        size = self.aggregator.module.coreset_size
        valid = np.arange(size) < len(self._picks.norms)
        core = np.zeros((size, self._dim), np.float32)
        core[valid] = self._picks.norms[:, None] * self._picks.faces
        return Coreset(valid.astype(np.int32) - 1, valid, core)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the summary as an `.npz` of plain arrays, beside and then renamed.

        Raises:
          InputError: no face has arrived.
        """
        if not self._dim:
            raise InputError(f"{path}: no face has arrived; there is nothing to save")
        k_center, sample = self._k_center.state(), self._sample.state()
        values = {name: getattr(self, name) for name in ("size", "growth", "faces")}
        values |= {"model": self.aggregator.digest, **self._picks.state()}
        values |= {column: k_center[name] for name, column in _K_CENTER.items()}
        values |= {column: sample[name] for name, column in _SAMPLE.items()}
        if self._sums is not None:
            values |= {column: getattr(self._sums, name) for name, column in _SUMS.items()}
        with replacing(pathlib.Path(path)) as beside, beside.open("wb") as file:
            np.savez(file, **values)

    @classmethod
    def load(cls, path: str | os.PathLike, aggregator: SetAggregator) -> "StreamingAggregator":
        """Reads what `save` wrote.

        Args:
          path: the file.
          aggregator: that the summary was made with.

        Raises:
          InputError: the file is missing or malformed, or was made with another model.
        """
        path = pathlib.Path(path)
        values = read_npz(path, (*_COLUMNS, *_SUMS.values()))
        if missing := [name for name in _COLUMNS if name not in values]:
            raise InputError(f"{path}: no column '{missing[0]}'; it is no summary of fpsset")
        if str(values["model"]) != aggregator.digest:
            raise InputError(
                f"{path}: was made with the model {values['model']}, not with {aggregator.digest}; "
                "start anew from the faces"
            )
        stream = cls(aggregator, int(values["size"]), float(values["growth"]))
        stream._begin(values["cover_centers"].shape[1])
        size, stream.faces = stream.size, int(values["faces"])
        k_center = {name: values[column] for name, column in _K_CENTER.items()}
        stream._k_center = KCenter.of_state(size, stream.growth, k_center)
        stream._sample = UniformSample.of_state(
            8 * size, {name: values[column] for name, column in _SAMPLE.items()}
        )
        picks = {name: values[name] for name in _PICKS}
        stream._picks = RunningPicks.of_state(aggregator.module.coreset_size, 2 * size, stream._gamma, picks)
        if not aggregator.module.picks_ask and stream.faces:
            if missing := [column for column in _SUMS.values() if column not in values]:
                raise InputError(f"{path}: no column '{missing[0]}'; start anew from the faces")
            stream._sums = AttentionSums(*(values[column] for column in _SUMS.values()))
        return stream


def _padded(faces: np.ndarray, norms: np.ndarray, counts: np.ndarray, slots: int) -> FaceSet:
    """Faces and how often each counts, in so many slots."""
    spare = (0, slots - len(norms))
    return FaceSet(
        np.pad(faces, (spare, (0, 0))),
        np.pad(norms, spare),
        np.pad(np.ones(len(norms), bool), spare),
        multiplicity=np.pad(counts, spare).astype(np.float32),
    )
