"""Batches of ragged sets with few distinct shapes: buckets of padded sizes, and packs of small sets."""

from typing import NamedTuple

import numpy as np

from fpsset.errors import InputError

# Minimum slots of a set. Fewer would cost hardly less, and each extra shape costs seconds of compilation.
_MIN_SLOTS = 8
# Packs: slots per row, maximum number of sets per row, and maximum number of faces of a packed set.
_PACK_SLOTS, _PACK_SETS, _PACKED_SET = 32, 6, 16
# Cost of a set beyond that of its slots (eight projections of its coreset), in slots.
_SET_COST = 128


def bucket_size(size: int, growth: int = 2) -> int:
    """The padded size of a set of `size` >= 1 faces: the least of 8, 8 growth, 8 growth^2, ... that fits.

    Args:
      size: faces.
      growth: 2 or 4.
    """
    padded = max(_MIN_SLOTS, 1 << (size - 1).bit_length())
    return padded if growth == 2 or (padded // _MIN_SLOTS).bit_length() % 2 else 2 * padded


def bucket_growth(platform: str) -> int:
    """The growth of buckets for a platform of JAX: 2 on CPUs, which compute slowly, and 4 on accelerators.

    There a batch takes a millisecond, and the compilation of its shape seconds to minutes.
    """
    return 2 if platform == "cpu" else 4


class Bucket(NamedTuple):
    """All sets that are padded to one size, to be computed in batches of one shape."""

    size: int  # slots per set
    count: int  # sets per batch
    members: np.ndarray  # [b] int64, the sets in the bucket; b may exceed `count`


def buckets(sizes: np.ndarray, faces_per_batch: int = 16384, growth: int = 2) -> list[Bucket]:
    """Groups sets by padded size, so that a jitted function compiles for few shapes.

    Sets are padded to powers of two, or to every other one. With a long tail of sizes a third of the slots is
    padding, or half, which costs less than compiling more shapes. All batches of a bucket hold the same
    number of sets; it is smaller in a bucket with few sets, so that these do not pay for a full batch.

    Args:
      sizes: [T] int, faces per set.
      faces_per_batch: maximum cost of a batch, where a set costs its slots plus 128. A set that exceeds it
        alone is its own batch.
      growth: see `bucket_size`.

    Returns:
      Buckets by increasing size; each set is in exactly one.

    Raises:
      InputError: a set is empty.
    """
    if len(sizes) and sizes.min() == 0:
        raise InputError(f"set {int(np.argmin(sizes))} has no faces; leave it out")
    padded = np.array([bucket_size(int(size), growth) for size in sizes], np.int64)
    found = []
    for size in np.unique(padded).tolist():
        members = np.flatnonzero(padded == size)
        found.append(Bucket(size, _rows(len(members), size + _SET_COST, faces_per_batch), members))
    return found


def _rows(number: int, cost: int, most: int) -> int:
    """Rows per batch, for `number` rows that cost `cost` each and a batch that may cost `most`."""
    return min(max(1, most // cost), 1 << max(number - 1, 0).bit_length())


class Batch(NamedTuple):
    """Sets that are computed together; the arguments of `RaggedSets.pad`."""

    which: np.ndarray  # [b] int64, the sets; or [b, S], packs of sets, -1 where a pack has fewer than S
    count: int  # rows of the batch; rows from b on are empty
    size: int  # slots per row


def batches(
    sizes: np.ndarray, faces_per_batch: int = 16384, packed: bool = False, growth: int = 2
) -> list[Batch]:
    """Plans batches of few distinct shapes that hold every set exactly once.

    Args:
      sizes: [T] int, faces per set.
      faces_per_batch: maximum cost of a batch, see `buckets`.
      packed: let small sets share rows of slots, which gives them one shape and little padding. The queries
        of every set in a pack are multiplied with all its slots, so packing pays off only where a matrix unit
        has capacity to spare, or where few compilations matter most.
      growth: see `bucket_size`.

    Returns:
      Batches; those of one shape are consecutive.

    Raises:
      InputError: a set is empty.
    """
    sizes = np.asarray(sizes)
    found, rest = [], np.arange(len(sizes))
    if packed and len(sizes) and sizes.min() > 0:
        packs, rest = packs_of(sizes), np.flatnonzero(sizes > _PACKED_SET)
        count = _rows(len(packs), _PACK_SLOTS + _PACK_SETS * _SET_COST, faces_per_batch)
        found = [
            Batch(packs[start : start + count], count, _PACK_SLOTS) for start in range(0, len(packs), count)
        ]
    return found + [
        Batch(rest[bucket.members[start : start + bucket.count]], bucket.count, bucket.size)
        for bucket in buckets(sizes[rest], faces_per_batch, growth)
        for start in range(0, len(bucket.members), bucket.count)
    ]


def packs_of(sizes: np.ndarray) -> np.ndarray:
    """Packs sets of at most 16 faces into rows of 32 slots, at most 6 sets per row.

    A pack starts with the largest set left. Each further set is the one closest to an equal share of the free
    slots, so that a pack runs out of slots and of places for sets at about the same time.

    Args:
      sizes: [T] int >= 1, faces per set; larger sets are ignored.

    Returns:
      [P, S] int64, the sets of each pack; -1 where a pack has fewer than S sets.
    """
    waiting = {size: np.flatnonzero(sizes == size).tolist() for size in range(1, _PACKED_SET + 1)}
    packs = []
    while any(waiting.values()):
        pack, free = [], _PACK_SLOTS
        while fitting := [size for size, sets in waiting.items() if sets and size <= free]:
            share = free / (_PACK_SETS - len(pack)) if pack else free
            size = min(fitting, key=lambda size: abs(size - share))
            pack.append(waiting[size].pop())
            free -= size
            if len(pack) == _PACK_SETS:
                break
        packs.append(pack + [-1] * (_PACK_SETS - len(pack)))
    return np.array(packs, np.int64).reshape(-1, _PACK_SETS)
