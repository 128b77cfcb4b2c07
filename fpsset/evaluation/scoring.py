"""Cosines of many pairs of descriptors, in blocks of rows on all devices of the process."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fpsset.evaluation.verification import Pairs
from fpsset.ops.metric import cosines

# Numbers per block: 32 MiB, twice that while the next block is being computed.
ENTRIES = 1 << 23


def product_blocks(
    left: np.ndarray, right: np.ndarray, entries: int = ENTRIES
) -> Iterator[tuple[slice, np.ndarray]]:
    """All cosines of two lists, in blocks of rows that the process's devices share.

    Args:
      left: [A, D] float32 unit rows.
      right: [B, D] float32 unit rows.
      entries: numbers per block.

    Yields:
      (rows of `left`, [a, B] float32), in order.
    """
    for rows, block in row_blocks(cosines, (left,), (right,), len(right), entries):
        yield rows, block[: rows.stop - rows.start]


def row_blocks(
    function: Callable, by_rows: tuple, whole: tuple, width: int, entries: int = ENTRIES
) -> Iterator[tuple[slice, Any]]:
    """Calls a function on blocks of rows, which the devices of the process share.

    Args:
      function: pure, (*rows on one device, *replicated arrays) -> pytree of arrays with a leading row axis.
        Functions that compare equal share one compilation.
      by_rows: arrays of A rows; the last block is padded with zeros.
      whole: arrays that are replicated to every device.
      width: numbers that one row needs while it is processed.
      entries: numbers per block.

    Yields:
      (rows, the function's result as NumPy arrays, padding included), in order.
    """
    run, rows_place, whole_place = _on_devices(function)
    devices, total = len(rows_place.device_set), len(by_rows[0])
    count = max(1, entries // (width * devices)) * devices
    count = min(count, -(-total // devices) * devices)
    whole = jax.device_put(whole, whole_place)
    pending = None  # a block is fetched once the next one is dispatched
    for start in range(0, total, count):
        rows = slice(start, min(start + count, total))
        missing = count - (rows.stop - rows.start)
        parts = tuple(np.pad(a[rows], ((0, missing), *[(0, 0)] * (a.ndim - 1))) for a in by_rows)
        made = run(jax.device_put(parts, rows_place), whole)
        if pending is not None:
            yield pending[0], jax.device_get(pending[1])
        pending = rows, made
    if pending is not None:
        yield pending[0], jax.device_get(pending[1])


@functools.lru_cache(maxsize=16)
def _on_devices(function: Callable):
    """(The jitted function, sharding of its rows and results, sharding of the replicated arrays)."""
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ("rows",), axis_types=(AxisType.Auto,), devices=devices)
    by_rows, whole = PartitionSpec("rows"), PartitionSpec()
    shared = jax.shard_map(
        lambda rows, rest: function(*rows, *rest), mesh=mesh, in_specs=(by_rows, whole), out_specs=by_rows
    )
    return jax.jit(shared), NamedSharding(mesh, by_rows), NamedSharding(mesh, whole)


class PairScorer:
    """Scores the same pairs for one method after another, sorting them once.

    If the pairs are more than 1 in 128 of all combinations of first and second templates, as in IJB, whole
    blocks of the product are cheaper than gathering the rows of each pair. Holds 8 bytes per pair.
    """

    def __init__(self, pairs: Pairs, entries: int = ENTRIES):
        """Prepares P pairs, to be scored in blocks of `entries` numbers."""
        self._pairs, self._entries = pairs, entries
        self._left, first = _renumber(pairs.first)
        self._right, second = _renumber(pairs.second)
        self._dense = len(first) * 128 > len(self._left) * len(self._right)
        if self._dense:
            # NumPy sorts 16-bit integers by radix.
            small = np.uint16 if len(self._left) <= 1 << 16 else np.int32
            order = np.argsort(first.astype(small), kind="stable")
            self._order = order.astype(np.int32 if len(order) < 1 << 31 else np.int64)
            self._ends = np.concatenate([[0], np.cumsum(np.bincount(first, minlength=len(self._left)))])
            self._column = second[self._order]

    def __call__(self, descriptors: np.ndarray) -> np.ndarray:
        """Cosine of each pair: [T, D] float32 unit rows -> [P] float32."""
        scores = np.empty(len(self._pairs.first), np.float32)
        if not self._dense:
            step = max(1, self._entries // (2 * descriptors.shape[1]))
            for start in range(0, len(scores), step):
                part = slice(start, start + step)
                left, right = descriptors[self._pairs.first[part]], descriptors[self._pairs.second[part]]
                np.einsum("pd,pd->p", left, right, out=scores[part])
            return scores
        width = len(self._right)
        for rows, block in product_blocks(descriptors[self._left], descriptors[self._right], self._entries):
            ends = self._ends[rows.start : rows.stop + 1]
            place = np.repeat(np.arange(len(ends) - 1) * width, np.diff(ends))
            part = slice(ends[0], ends[-1])
            scores[self._order[part]] = block.reshape(-1).take(place + self._column[part])
        return scores


def pair_scores(descriptors: np.ndarray, pairs: Pairs, entries: int = ENTRIES) -> np.ndarray:
    """Cosine of each pair.

    Args:
      descriptors: [T, D] float32 unit rows.
      pairs: P pairs.
      entries: numbers per block.

    Returns:
      [P] float32.
    """
    return PairScorer(pairs, entries)(descriptors)


def _renumber(templates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct templates, sorted, and each one's position: [P] -> [U] int64, [P] int32."""
    used = np.bincount(templates) > 0
    return np.flatnonzero(used), (np.cumsum(used, dtype=np.int32) - 1)[templates]
