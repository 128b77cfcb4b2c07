"""Batches of ragged sets in few shapes: buckets of padded sizes, and packs of small sets."""

from typing import NamedTuple

import numpy as np

from fpsset.errors import InputError

# The least slots of a set. Smaller sets cost hardly less than this, and a compilation costs seconds.
_LEAST = 8
# Packs: slots of a row, the most sets that share one, and the most faces of a set in one.
_ROW, _SHARE, _PACKED = 32, 6, 16
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
        found.append(Bucket(size, _rows(len(members), size + _SET_COST, faces_per_batch), members))
    return found


def _rows(number: int, cost: int, most: int) -> int:
    """Rows of a batch of at most so many faces, where there are `number` of such a cost in all."""
    return min(max(1, most // cost), 1 << max(number - 1, 0).bit_length())


class Batch(NamedTuple):
    """Some sets that are computed together; arguments of `RaggedSets.pad`."""

    which: np.ndarray  # [b] int64, the sets; [b, S] packs of them
    count: int  # with empty ones behind them
    size: int  # slots of each set, or of the row that a pack shares


def batches(sizes: np.ndarray, faces_per_batch: int = 16384, packed: bool = False) -> list[Batch]:
    """Every set once, in batches of few shapes, those of a shape one after the other.

    Args:
      sizes: [T] int, faces per set.
      faces_per_batch: as of `buckets`.
      packed: let small sets share rows of slots: one shape for all of them, and little padding. The queries
        of a pack's sets meet all its slots, so that it is worth it where a matrix unit has work to spare, or
        where few compilations matter most.

    Raises:
      InputError: a set is empty.
    """
    sizes = np.asarray(sizes)
    found, rest = [], np.arange(len(sizes))
    if packed and len(sizes) and sizes.min() > 0:
        packs, rest = packs_of(sizes), np.flatnonzero(sizes > _PACKED)
        count = _rows(len(packs), _ROW + _SHARE * _SET_COST, faces_per_batch)
        found = [Batch(packs[start : start + count], count, _ROW) for start in range(0, len(packs), count)]
    return found + [
        Batch(rest[bucket.members[start : start + bucket.count]], bucket.count, bucket.size)
        for bucket in buckets(sizes[rest], faces_per_batch)
        for start in range(0, len(bucket.members), bucket.count)
    ]


def packs_of(sizes: np.ndarray) -> np.ndarray:
    """Small sets by the rows of slots that they share: [P, S] int64, -1 where a pack holds fewer than S.

    A row begins with the largest set; each of the next is the one nearest to an even share of the free slots,
    so that neither slots nor places are left over.
    """
    waiting = {size: np.flatnonzero(sizes == size).tolist() for size in range(1, _PACKED + 1)}
    packs = []
    while any(waiting.values()):
        pack, free = [], _ROW
        while fitting := [size for size, sets in waiting.items() if sets and size <= free]:
            share = free / (_SHARE - len(pack)) if pack else free
            size = min(fitting, key=lambda size: abs(size - share))
            pack.append(waiting[size].pop())
            free -= size
            if len(pack) == _SHARE:
                break
        packs.append(pack + [-1] * (_SHARE - len(pack)))
    return np.array(packs, np.int64).reshape(-1, _SHARE)
