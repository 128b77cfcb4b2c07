"""FaceSet: sets of faces of different sizes as padded arrays with a mask."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from flax import struct

from fpsset.errors import InputError


@struct.dataclass
class FaceSet:
    """A batch of face sets, padded to one size. A pytree.

    Attributes:
      embeddings: [*B, N, D] unit rows, float32, bfloat16 or float16.
      norms: [*B, N] lengths of the embeddings before normalisation, >= 0: the quality signal.
      mask: [*B, N] bool, True where a slot holds a face. Padded slots may hold anything.
      frames: optional [*B, N] float32 >= 1, how many faces of the set are of the same medium, still or video,
        as this one; not known when None. Pooling by media and FaceCoresetNet with `by_media` read it. Counted
        anew where faces are taken out.
      counts: optional [*B, N] float32 >= 0, how many faces alike a slot stands for in the set attention
        of FaceCoresetNet, which alone reads it; 1 each when None.
    """

    embeddings: jax.Array
    norms: jax.Array
    mask: jax.Array
    frames: jax.Array | None = None
    counts: jax.Array | None = None


def pad_sets(
    embeddings_list: Sequence[np.ndarray],
    norms_list: Sequence[np.ndarray],
    size: int | None = None,
    media_list: Sequence[np.ndarray] | None = None,
) -> FaceSet:
    """Stacks ragged sets into one padded FaceSet.

    Args:
      embeddings_list: B arrays [N_b, D], unit rows; sets may be empty, but not all of them.
      norms_list: B arrays [N_b].
      size: slots per set; the largest set's size when None.
      media_list: B integer arrays [N_b] of media ids, any integers.

    Returns:
      FaceSet of NumPy arrays: float32 embeddings [B, size, D], norms [B, size], mask [B, size].

    Raises:
      ValueError: no face, sets of several widths, lengths that disagree, or a set larger than `size`.
    """
    embeddings_list = [np.asarray(e) for e in embeddings_list]
    norms_list = [np.asarray(n) for n in norms_list]
    lengths = [len(e) for e in embeddings_list]
    if not sum(lengths):
        raise ValueError("pad_sets needs at least one face")
    if any(e.ndim != 2 or e.shape[1] != embeddings_list[0].shape[-1] for e in embeddings_list):
        raise ValueError(f"sets must be [N, D] of one width; got {[e.shape for e in embeddings_list]}")
    if lengths != [len(n) for n in norms_list]:
        raise ValueError(f"{lengths} embeddings but {[len(n) for n in norms_list]} norms")
    if media_list is not None and lengths != [len(m) for m in media_list]:
        raise ValueError(f"{lengths} embeddings but {[len(m) for m in media_list]} media ids")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    sets = RaggedSets(
        np.concatenate(embeddings_list),
        np.concatenate(norms_list),
        None if media_list is None else np.concatenate([np.asarray(m) for m in media_list]),
        np.arange(starts[-1]),
        starts,
    )
    size = max(lengths) if size is None else size
    if max(lengths) > size:
        raise ValueError(f"a set has {max(lengths)} faces, more than size = {size}")
    return sets.pad(np.arange(len(lengths)), len(lengths), size)


class RaggedSets(NamedTuple):
    """Sets of any sizes over a table of faces: set t holds rows[starts[t]:starts[t + 1]]."""

    embeddings: np.ndarray  # [M, D]
    norms: np.ndarray  # [M]
    media: np.ndarray | None  # [M] int
    rows: np.ndarray  # [M'] int64
    starts: np.ndarray  # [T + 1] int64

    def sizes(self) -> np.ndarray:
        """[T] int64, faces per set."""
        return np.diff(self.starts)

    def slots(self, which: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the sets `which` [B], padded: ([B, size] int64 rows, [B, size] bool mask)."""
        offsets = np.arange(size)[None, :]
        mask = offsets < self.sizes()[which][:, None]
        places = np.where(mask, self.starts[which][:, None] + offsets, 0)
        return np.where(mask, self.rows[places], 0), mask

    def pad(self, which: np.ndarray, count: int, size: int) -> FaceSet:
        """FaceSet [count, size] of the sets `which`, filled up with empty sets."""
        rows, mask = self.slots(which, size)
        spare = count - len(which)
        rows, mask = np.pad(rows, ((0, spare), (0, 0))), np.pad(mask, ((0, spare), (0, 0)))
        embeddings = np.asarray(self.embeddings[rows], np.float32)
        embeddings[~mask] = 0
        norms = np.where(mask, self.norms[rows], 0).astype(np.float32)
        frames = None if self.media is None else frames_of(self.media[rows], mask)
        return FaceSet(embeddings, norms, mask, frames)


def group_rows(
    embeddings: np.ndarray, norms: np.ndarray, set_ids: np.ndarray, media: np.ndarray | None = None
) -> tuple[np.ndarray, RaggedSets]:
    """Groups rows that share an id, keeping the rows' order within a set.

    Args:
      embeddings: [M, D].
      norms: [M].
      set_ids: [M] integers or strings.
      media: optional [M] int.

    Returns:
      ([T] unique ids, sorted; the sets in that order).
    """
    ids, codes = np.unique(set_ids, return_inverse=True)
    rows = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(ids)))])
    return ids, RaggedSets(embeddings, norms, media, rows, starts)


# The least slots of a set. Smaller sets cost hardly less than this, and a compilation costs seconds.
_LEAST = 8
# What a set costs beyond its faces, in faces: eight projections of its coreset.
_SET_COST = 128


def bucket_size(size: int) -> int:
    """The padded size for a set of `size` faces: the next power of two, and at least 8."""
    return max(_LEAST, 1 << (size - 1).bit_length())


class Bucket(NamedTuple):
    """Batches of one shape."""

    size: int  # slots of a set
    count: int  # sets of a batch
    members: np.ndarray  # [b] int64, the sets in it, any number


def buckets(sizes: np.ndarray, faces_per_batch: int = 16384) -> list[Bucket]:
    """Sorts sets by padded size, so that a function jitted for a few shapes serves them all.

    Sets are padded to powers of two: over a long tail of sizes a third of the slots is padding, which
    costs less than the compilations of more shapes. A batch of a bucket always holds
    the same number of sets; one with few sets need not pay for a full batch.

    Args:
      sizes: [T] int, faces per set.
      faces_per_batch: what a batch may cost, in faces, where a set costs its slots and 128 more; a single
        larger set is a batch of its own.

    Returns:
      Buckets by rising size; each set is in one of them.

    Raises:
      InputError: a set is empty.
    """
    if len(sizes) and sizes.min() == 0:
        raise InputError(f"set {int(np.argmin(sizes))} holds no face; leave it out")
    padded = np.array([bucket_size(int(size)) for size in sizes], np.int64)
    found = []
    for size in np.unique(padded).tolist():
        members = np.flatnonzero(padded == size)
        most = max(1, faces_per_batch // (size + _SET_COST))
        found.append(Bucket(size, min(most, 1 << (len(members) - 1).bit_length()), members))
    return found


class Batch(NamedTuple):
    """Some sets that are computed together; arguments of `RaggedSets.pad`."""

    which: np.ndarray  # [b] int64, the sets
    count: int  # with empty ones behind them
    size: int  # slots of each


def batches(sizes: np.ndarray, faces_per_batch: int = 16384) -> list[Batch]:
    """Every set once, in batches of few shapes, those of a shape one after the other.

    Args:
      sizes: [T] int, faces per set.
      faces_per_batch: as of `buckets`.

    Raises:
      InputError: a set is empty.
    """
    return [
        Batch(bucket.members[start : start + bucket.count], bucket.count, bucket.size)
        for bucket in buckets(sizes, faces_per_batch)
        for start in range(0, len(bucket.members), bucket.count)
    ]


def frames_of(media: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """How many real slots of its set have the same medium as each, 1 on padding.

    Args:
      media: [B, N] integers or strings; padding may hold anything.
      mask: [B, N] bool.

    Returns:
      [B, N] float32.
    """
    sets = np.broadcast_to(np.arange(len(mask))[:, None], mask.shape)
    frames = np.ones(mask.shape, np.float32)
    frames[mask] = count_alike(sets[mask], media[mask])
    return frames


def count_alike(sets: np.ndarray, media: np.ndarray) -> np.ndarray:
    """How many rows have the same set and medium as each: [M], [M] -> [M] int64."""
    order = np.lexsort((media, sets))
    sets, media = sets[order], media[order]
    new = np.concatenate([[True], (sets[1:] != sets[:-1]) | (media[1:] != media[:-1])])[: len(order)]
    run = np.cumsum(new) - 1
    counts = np.empty(len(order), np.int64)
    counts[order] = np.bincount(run)[run]
    return counts
