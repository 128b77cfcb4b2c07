"""Exact search of a gallery on the devices of this process: all scores of a block of queries, the best kept.

Devices share the gallery: each finds the best of its people, and the best of all are chosen from these.
Queries and galleries come in few sizes, so that programs are few.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from fpsset.ops.metric import cosines
from fpsset.people.gallery import Gallery

# By which several cosines to a person become one score: log-mean-exp, which is near their mean where they
# agree and near the largest where one stands out.
SHARPNESS = 10.0
_QUERIES = (1, 8, 64, 512)  # sizes of blocks
_ENTRIES = 1 << 26  # cosines of a block on one device: 256 MiB
_LEAST_PEOPLE = 1 << 8
_AXIS = "people"


class Found(NamedTuple):
    """The best people for Q queries.

    Attributes:
      scores: [Q, K] float32, descending; -inf beyond the number of people.
      people: [Q, K] int64, numbers in the gallery; -1 where the score is -inf.
    """

    scores: np.ndarray
    people: np.ndarray


class ExactSearch:
    """Searches a gallery, which it holds on the devices.

    A person's score is the cosine to the descriptor, or the log-mean-exp of those to the prototypes, at
    sharpness 10. Of people with equal scores, the first by name comes first.

    Example:
      >>> import numpy as np
      >>> from fpsset.people.gallery import Gallery
      >>> gallery = Gallery(np.array(["ann", "bob"]), np.arange(3), np.eye(2, dtype=np.float16))
      >>> ExactSearch(gallery)(np.array([[0.6, 0.8]], np.float32), 1).people.tolist()
      [[1]]
    """

    def __init__(self, gallery: Gallery, devices: list | None = None):
        """Puts P people on devices.

        Args:
          gallery: the people.
          devices: to use; all of this process when None.
        """
        devices = jax.local_devices() if devices is None else devices
        self.people = len(gallery.names)
        slots = 1 << int(np.diff(gallery.starts).max() - 1).bit_length()
        self._each = _few_sizes(-(-self.people // len(devices)))
        self._queries = max(size for size in _QUERIES if size * self._each * slots <= _ENTRIES or size == 1)
        self._mesh = jax.make_mesh((len(devices),), (_AXIS,), axis_types=(AxisType.Auto,), devices=devices)
        place = NamedSharding(self._mesh, P(_AXIS))
        total, dim = self._each * len(devices), gallery.vectors.shape[1]

        def part(index) -> np.ndarray:
            """The vectors of one device: float32, of unit length, without a copy of the others'."""
            first = index[0].start or 0
            rows, real = _slots(gallery.starts, slots, first // slots, self._each)
            vectors = gallery.vectors[rows[real]].astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            if real.all():
                return vectors
            padded = np.zeros((self._each * slots, dim), np.float32)
            padded[real.ravel()] = vectors
            return padded

        self._vectors = jax.make_array_from_callback((total * slots, dim), place, part)
        self._real = jax.device_put(_slots(gallery.starts, slots, 0, total)[1], place)

    def __call__(self, queries: np.ndarray, count: int) -> Found:
        """The best people for each query.

        Args:
          queries: [Q, D] float32 unit rows.
          count: K >= 1, how many people.
        """
        wanted = min(count, self.people)
        run = _program(self._mesh, min(_power_of_two(wanted), self._each * self._mesh.size))
        parts = []
        for start in range(0, len(queries), self._queries):
            part = queries[start : start + self._queries]
            rows = next(rows for rows in _QUERIES if rows >= len(part))
            padded = np.pad(part, ((0, rows - len(part)), (0, 0)))
            scores, people = jax.device_get(run(padded, self._vectors, self._real))
            parts.append((scores[: len(part), :wanted], people[: len(part), :wanted]))
        scores, people = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Found(scores, np.where(scores > -np.inf, people, -1).astype(np.int64))

    def every_score(self, queries: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """The scores of all queries with all people, in blocks.

        Args:
          queries: [Q, D] float32 unit rows.

        Yields:
          (rows of the queries, [rows, P] float32).
        """
        run = _all_program(self._mesh)
        for start in range(0, len(queries), self._queries):
            part = queries[start : start + self._queries]
            rows = next(rows for rows in _QUERIES if rows >= len(part))
            padded = np.pad(part, ((0, rows - len(part)), (0, 0)))
            scores = np.asarray(run(padded, self._vectors, self._real))
            yield slice(start, start + len(part)), scores[: len(part), : self.people]


def scores_of(queries: np.ndarray, gallery: Gallery, people: np.ndarray) -> np.ndarray:
    """The score of each query with one person: [Q, D], [Q] int -> [Q] float32."""
    found = np.empty(len(queries), np.float32)
    for row, person in enumerate(people):
        vectors = gallery.vectors[gallery.starts[person] : gallery.starts[person + 1]].astype(np.float32)
        found[row] = _log_mean_exp(vectors @ queries[row] / np.linalg.norm(vectors, axis=1))
    return found


def _log_mean_exp(cosines: np.ndarray) -> float:
    if len(cosines) == 1:
        return cosines[0]
    most = cosines.max()
    return most + np.log(np.mean(np.exp(SHARPNESS * (cosines - most)))) / SHARPNESS


def _slots(starts: np.ndarray, slots: int, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """([count, slots] int64 vectors of people from `first` on, [count, slots] bool, which are theirs)."""
    people = np.arange(first, first + count)
    here = np.minimum(people, len(starts) - 2)
    sizes = np.where(people < len(starts) - 1, np.diff(starts)[here], 0)
    real = np.arange(slots) < sizes[:, None]
    return np.where(real, starts[here][:, None] + np.arange(slots), 0), real


@functools.lru_cache(maxsize=16)
def _program(mesh, count: int):
    """(queries [Q, D], vectors [V, D], real [P, S], V = P S) -> (scores [Q, K], people [Q, K] int32)."""

    def search(queries, vectors, real):
        scores, places = jax.lax.top_k(_scores(queries, vectors, real), min(count, len(real)))
        return scores, places.astype(jnp.int32) + jax.lax.axis_index(_AXIS) * len(real)

    def merged(queries, vectors, real):
        places = P(), P(_AXIS), P(_AXIS)
        each = jax.shard_map(search, mesh=mesh, in_specs=places, out_specs=P(None, _AXIS))
        scores, people = each(queries, vectors, real)
        scores, places = jax.lax.top_k(scores, count)
        return scores, jnp.take_along_axis(people, places, axis=1)

    return jax.jit(merged)


@functools.lru_cache(maxsize=4)
def _all_program(mesh):
    places = P(), P(_AXIS), P(_AXIS)
    return jax.jit(jax.shard_map(_scores, mesh=mesh, in_specs=places, out_specs=P(None, _AXIS)))


def _scores(queries, vectors, real):
    """Scores of people: [Q, D], [V, D], [P, S] bool -> [Q, P], -inf where nobody is."""
    found = cosines(queries, vectors)
    there = jnp.any(real, axis=1)[None]
    if real.shape[1] == 1:
        return jnp.where(there, found, -jnp.inf)
    found = jnp.where(real[None], found.reshape(len(queries), *real.shape), -jnp.inf)
    most = jnp.where(there, jnp.max(found, axis=2), 0.0)
    mean = jnp.sum(jnp.exp(SHARPNESS * (found - most[..., None])), axis=2)
    mean = mean / jnp.maximum(jnp.sum(real, axis=1, dtype=jnp.float32), 1.0)[None]
    return jnp.where(there, most + jnp.log(jnp.where(there, mean, 1.0)) / SHARPNESS, -jnp.inf)


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


def _few_sizes(count: int) -> int:
    """The next of eight sizes per doubling from 256 on, so at most an eighth more than is needed."""
    step = max(_power_of_two(count) // 16, 1)
    return max(-(-count // step) * step, _LEAST_PEOPLE)
