"""People or images in shuffled order, pass after pass, a batch at a time.

The order is that of Grain's `MapDataset.shuffle`, which takes some 30 microseconds for each person, most of
the time of loading a batch; here whole passes are shuffled at once. References: Beaulieu et al. 2013, "The
SIMON and SPECK families of lightweight block ciphers"; Black and Rogaway 2002, "Ciphers with arbitrary finite
domains"; the C++ standard for `std::seed_seq`, which draws the keys.
"""

import functools
import sys

import numpy as np

_ROUNDS = 4
_LEAST_BITS = 16
_WORD = 0xFFFFFFFF


class ShuffledBatches:
    """Batches of the numbers 0 to `count` - 1, shuffled anew in every pass: an endless source for Grain."""

    def __init__(self, count: int, batch_size: int, seed: int, taken: int | None = None):
        """Describes the batches.

        Args:
          count: C, at least 1.
          batch_size: B; a batch may span two passes or more.
          seed: of the first pass, in 0 ... 2^32 - 1; pass p takes seed + p.
          taken: numbers of each pass, 1 ... C, after which the next begins; None: all.
        """
        self._count, self._batch_size, self._seed = count, batch_size, int(seed)
        self._taken = count if taken is None else taken

    def __len__(self) -> int:
        return sys.maxsize // self._batch_size

    def __getitem__(self, number: int) -> np.ndarray:
        """Batch `number`: [B] int64."""
        places = number * self._batch_size + np.arange(self._batch_size)
        passes, indices = np.divmod(places, self._taken)
        parts = [
            permutation(self._count, self._seed + int(p))[indices[passes == p]] for p in np.unique(passes)
        ]
        return np.concatenate(parts)


@functools.lru_cache(maxsize=4)  # threads that read ahead are in two passes at times
def permutation(count: int, seed: int) -> np.ndarray:
    """A permutation of 0 ... `count` - 1: [C] int64, read-only.

    Args:
      count: C, at least 1.
      seed: modulo 2^32.

    Example:
      >>> sorted(permutation(5, seed=1).tolist())
      [0, 1, 2, 3, 4]
    """
    indices = np.arange(count)
    if count == 1:
        return indices
    bits = int(np.ceil(np.log2(count - 1)))
    half = max(bits + bits % 2, _LEAST_BITS) // 2
    keys = [key & ((1 << half) - 1) for key in _keys(seed % (_WORD + 1))]
    if 2 * half == _LEAST_BITS:  # walks from index to index meet each of its values once at most
        table = _encrypted(np.arange(1 << _LEAST_BITS), keys, half).tolist()
        found = np.empty(count, np.int64)
        for index in range(count):
            value = table[index % len(table)]
            while value >= count:
                value = table[value]
            found[index] = value
    else:
        found = _encrypted(indices, keys, half)
        while len(outside := np.flatnonzero(found >= count)):
            found[outside] = _encrypted(found[outside], keys, half)
    found.flags.writeable = False
    return found


def _encrypted(values: np.ndarray, keys: list[int], half: int) -> np.ndarray:
    """Simon's rounds on values of two words of `half` bits."""
    mask = (1 << half) - 1

    def mixed(word: np.ndarray) -> np.ndarray:
        one, two, eight = (((word << r) | (word >> (half - r))) & mask for r in (1, 2, 8))
        return (one & eight) ^ two

    left, right = (values >> half) & mask, values & mask
    for first, second in zip(keys[::2], keys[1::2], strict=True):
        left = left ^ mixed(right) ^ first
        right = right ^ mixed(left) ^ second
    return (left << half) | right


def _keys(seed: int) -> list[int]:
    """The first numbers of `std::seed_seq{seed}`, 32 bits each."""
    n = _ROUNDS
    near = (n - 1) // 2
    p = (n - near) // 2
    q = p + near
    held = [0x8B8B8B8B] * n
    for k in range(n):
        mixed = held[k] ^ held[(k + p) % n] ^ held[k - 1]
        first = 1664525 * (mixed ^ mixed >> 27) & _WORD
        second = first + (1 if k == 0 else k + seed if k == 1 else k) & _WORD
        held[(k + p) % n] = held[(k + p) % n] + first & _WORD
        held[(k + q) % n] = held[(k + q) % n] + second & _WORD
        held[k] = second
    for k in range(n):
        mixed = held[k] + held[(k + p) % n] + held[k - 1] & _WORD
        first = 1566083941 * (mixed ^ mixed >> 27) & _WORD
        second = first - k & _WORD
        held[(k + p) % n] ^= first
        held[(k + q) % n] ^= second
        held[k] = second
    return held
