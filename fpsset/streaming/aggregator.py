"""Aggregates a stream of faces that are not kept, from a summary of fixed size.

Nearly equal faces, such as the frames of a clip, share one representative, however many there are
(`KCenter`). The coreset is picked as faces arrive (`RunningPicks`). As long as there is a representative for
every distinct face, the attention sees the representatives, each weighted by the number of faces it
represents. After that, it sees a uniform sample of all faces (`UniformSample`), in which a clip keeps its
share of the stream. If the sums do not depend on the picks, as in the plain model, the sums over all faces
are kept instead, which is exact.
"""

import functools
import os
import pathlib
import zlib

import jax
import numpy as np

from fpsset.data.columns import checked_columns
from fpsset.data.npz import read_npz, write_npz
from fpsset.data.rows import unit_rows
from fpsset.errors import InputError
from fpsset.face_set import FaceSet
from fpsset.inference.aggregator import SetAggregator
from fpsset.inference.checks import scaled_norms
from fpsset.inference.out_of_core import descriptor_of_parts, descriptor_of_sums, sums_of_part
from fpsset.models.selector import Coreset
from fpsset.ops.attention import AttentionSums, merge
from fpsset.streaming.k_center import KCenter
from fpsset.streaming.running_picks import RunningPicks
from fpsset.streaming.saved_state import AGAIN, COLUMNS, K_CENTER, PICKS, SAMPLE, SUMS, checked_state
from fpsset.streaming.uniform_sample import UniformSample

_MAX_SIZE = 1 << 16


class StreamingAggregator:
    """Gives the descriptor of a stream of faces of one person at any time, in fixed memory.

    For up to M distinct faces the descriptor equals that of `SetAggregator.aggregate` without media. Beyond
    that it is an approximation and may rest on a different pick (see `fpsset.streaming.running_picks`).
    Besides M representatives it holds 2 M runners-up for each pick after the first, and 8 M randomly drawn
    faces: 7.5 MB for M = 256, K = 3 and D = 512.

    Attributes:
      aggregator: the aggregator whose descriptors are computed.
      size: M, the maximum number of representatives.
      growth: factor by which the merging threshold grows when there are too many representatives.
      faces: the number of faces that have arrived.

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
        """Creates an empty summary.

        Args:
          aggregator: the aggregator whose descriptors to compute.
          size: M, the maximum number of representatives, in K ... 65536.
          growth: b > 1, the factor by which the merging threshold grows when there are too many
            representatives. The radius is at most 2 b^2 / (b - 1) times the smallest possible one: 24 times
            for b = 1.1; the bound is smallest for b = 2, 8 times.

        Raises:
          InputError: an argument is out of range.
        """
        if not aggregator.module.coreset_size <= size <= _MAX_SIZE or not 1 < growth < np.inf:
            raise InputError(
                f"size is {size} and growth is {growth}; size must be at least the coreset size "
                f"{aggregator.module.coreset_size} and at most {_MAX_SIZE}, and growth above 1 and finite"
            )
        self.aggregator, self.size, self.growth, self.faces = aggregator, size, growth, 0
        self._dim = 0
        if aggregator.dim:
            self._begin(aggregator.dim)

    def _begin(self, dim: int) -> None:
        """Allocates the summary once the width of the embeddings is known."""
        self._dim, size = dim, self.size
        self._picks = RunningPicks(self.aggregator.module.coreset_size, 2 * size, self._gamma, dim)
        self._k_center = KCenter(size, self.growth, dim)
        self._sample = UniformSample(8 * size, dim)
        self._sums: AttentionSums | None = None

    @property
    def _gamma(self) -> float:
        return self.aggregator.variables["params"]["gamma"]

    def __len__(self) -> int:
        """The number of representatives held."""
        return len(self._k_center) if self._dim else 0

    def __repr__(self) -> str:
        return f"StreamingAggregator({self.faces} faces, {len(self)} of {self.size} representatives)"

    @property
    def radius(self) -> float:
        """Upper bound on the distance |u - v| between any face and its representative, in [0, 2]."""
        return float(self._k_center.reach.max(initial=0)) if self._dim else 0.0

    @property
    def least_radius(self) -> float:
        """Lower bound on the radius of any M representatives; 0 while M represent every distinct face."""
        return self._k_center.least_radius if self._dim else 0.0

    def update(
        self, embeddings: np.ndarray, norms: np.ndarray | float | None = None
    ) -> "StreamingAggregator":
        """Adds faces to the summary.

        Args:
          embeddings: [n, D] float, or [D] for one face; normalised to unit length.
          norms: [n] >= 0, or one number, as the backbone returned them; the lengths of the embeddings when
            None.

        Returns:
          self.

        Raises:
          InputError: the faces are malformed; none of them is added.
        """
        norms = None if norms is None else np.atleast_1d(np.asarray(norms))
        embeddings, norms = unit_rows(np.atleast_2d(np.asarray(embeddings)), norms, "faces")
        if self._dim not in (0, embeddings.shape[1]):
            raise InputError(f"faces: embeddings are {embeddings.shape[1]} wide; the model takes {self._dim}")
        norms = scaled_norms(norms, self.aggregator.norm_scale, "faces")
        norms = np.ones_like(norms) if self.aggregator.module.ignores_norms else norms
        if not self._dim:
            self._begin(embeddings.shape[1])
        for start in range(0, len(norms), self.size):
            unit, lengths = embeddings[start : start + self.size], norms[start : start + self.size]
            self._picks.add(unit, lengths, (self._k_center.centers, self._k_center.norms))
            self._k_center.add(unit, lengths)
            # Seeded by position and content: streams that are merged later must not draw the same keys.
            rng = np.random.default_rng([self.faces, zlib.crc32(unit[0])])
            self._sample.add(unit, lengths, rng.random(len(unit)))
            self.faces += len(unit)
            if not self.aggregator.module.picks_ask:
                part = _padded(unit, lengths, np.ones(len(unit)), self.size)
                self._sums = sums_of_part(*self._model, self._coreset(), part, self._sums)
        return self

    def merge(self, other: "StreamingAggregator") -> "StreamingAggregator":
        """Adds everything that another summary has seen; the other summary is not changed.

        Returns:
          self.

        Raises:
          InputError: the other summary has another model, size or growth.
        """
        mine, theirs = self.aggregator.digest, other.aggregator.digest
        if mine != theirs:
            raise InputError(
                f"a summary made with the model {theirs} cannot be merged into one made with {mine}; "
                "use one model for both"
            )
        if (other.size, other.growth) != (self.size, self.growth):
            raise InputError(
                f"summaries with sizes {self.size} and {other.size} and growths {self.growth} and "
                f"{other.growth} cannot be merged; use the same size and growth for both"
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
        """The descriptor of all faces so far.

        Returns:
          ([D] float32 unit descriptor, its norm before normalisation).

        Raises:
          InputError: no face has arrived.
        """
        if not self.faces:
            raise InputError("no face has arrived, so there is no descriptor; call update first")
        if self._sums is not None:
            return descriptor_of_sums(*self._model, self._coreset(), self._sums)
        k_center, sample = self._k_center, self._sample
        if k_center.threshold == 0:  # every distinct face has its own representative
            faces = k_center.centers, k_center.norms, k_center.counts
        else:
            faces = sample.faces, sample.norms, np.ones(len(sample.norms))
        return descriptor_of_parts(*self._model, self._coreset(), [_padded(*faces, 8 * self.size)])

    @property
    def _model(self) -> tuple:
        return self.aggregator.module, self.aggregator.variables

    def _coreset(self) -> Coreset:
        """The picks so far; their indices are placeholders, since faces are not kept."""
        size = self.aggregator.module.coreset_size
        valid = np.arange(size) < len(self._picks.norms)
        core = np.zeros((size, self._dim), np.float32)
        core[valid] = self._picks.norms[:, None] * self._picks.faces
        return Coreset(valid.astype(np.int32) - 1, valid, core)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the summary to an `.npz` file of plain arrays, which is replaced atomically.

        Raises:
          InputError: the width of the embeddings is unknown, because no face has arrived.
        """
        if not self._dim:
            raise InputError(f"{path}: no face has arrived, so there is nothing to save; call update first")
        k_center, sample = self._k_center.state(), self._sample.state()
        values = {name: getattr(self, name) for name in ("size", "growth", "faces")}
        values |= {"model": self.aggregator.digest, **self._picks.state()}
        values |= {column: k_center[name] for name, column in K_CENTER.items()}
        values |= {column: sample[name] for name, column in SAMPLE.items()}
        if self._sums is not None:
            values |= {column: getattr(self._sums, name) for name, column in SUMS.items()}
        write_npz(pathlib.Path(path), values)

    @classmethod
    def load(cls, path: str | os.PathLike, aggregator: SetAggregator) -> "StreamingAggregator":
        """Reads a summary that `save` wrote.

        Args:
          path: the file to read.
          aggregator: the aggregator that the summary was made with.

        Raises:
          InputError: the file is missing or malformed, or was made with another model.
        """
        path = pathlib.Path(path)
        values = read_npz(path, (*COLUMNS, *SUMS.values()))
        if missing := [name for name in COLUMNS if name not in values]:
            raise InputError(
                f"{path}: no column '{missing[0]}', so this is not a summary of a stream; "
                "give a file written by StreamingAggregator.save"
            )
        if (made_with := str(values["model"])) != aggregator.digest:
            raise InputError(
                f"{path}: was made with the model {made_with[:40]}, not with {aggregator.digest}; "
                "load it with that model, or start again from the faces"
            )
        numbers = checked_columns(values, {"size": "iu", "growth": "f", "faces": "iu"}, str(path), AGAIN)
        try:
            stream = cls(aggregator, int(numbers["size"]), float(numbers["growth"]))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        size, stream.faces = stream.size, int(numbers["faces"])
        state = checked_state(values, aggregator, size, str(path))
        stream._begin(state["cover_centers"].shape[1])
        k_center = {name: state[column] for name, column in K_CENTER.items()}
        stream._k_center = KCenter.of_state(size, stream.growth, k_center)
        stream._sample = UniformSample.of_state(
            8 * size, {name: state[column] for name, column in SAMPLE.items()}
        )
        picks = {name: state[name] for name in PICKS}
        stream._picks = RunningPicks.of_state(aggregator.module.coreset_size, 2 * size, stream._gamma, picks)
        if not aggregator.module.picks_ask and stream.faces:
            part = _padded(k_center["centers"], k_center["norms"], k_center["counts"], size)
            look = functools.partial(sums_of_part, *stream._model, stream._coreset())
            like = jax.eval_shape(lambda part: look(part, None), part)
            forms = {
                column: " ".join(("f-", *map(str, getattr(like, name).shape)))
                for name, column in SUMS.items()
            }
            sums = checked_columns(values, forms, str(path), AGAIN)
            stream._sums = AttentionSums(*(sums[column] for column in SUMS.values()))
        return stream


def _padded(faces: np.ndarray, norms: np.ndarray, counts: np.ndarray, slots: int) -> FaceSet:
    """Pads faces [n, D] with norms [n] and counts [n] to a FaceSet of `slots` slots."""
    spare = (0, slots - len(norms))
    return FaceSet(
        np.pad(faces, (spare, (0, 0))),
        np.pad(norms, spare),
        np.pad(np.ones(len(norms), bool), spare),
        multiplicity=np.pad(counts, spare).astype(np.float32),
    )
