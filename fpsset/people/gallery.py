"""The vectors of a store's people, in memory."""

from typing import NamedTuple

import numpy as np

from fpsset.errors import InputError
from fpsset.people.store import Store


class Gallery(NamedTuple):
    """The vectors of P people, by name.

    Attributes:
      names: [P] str, sorted.
      starts: [P + 1] int64: person p has the vectors starts[p] to starts[p + 1].
      vectors: [V, D] float16, of unit length up to rounding.
    """

    names: np.ndarray
    starts: np.ndarray
    vectors: np.ndarray

    def __repr__(self) -> str:
        return f"Gallery({len(self.names)} people, {len(self.vectors)} vectors {self.vectors.shape[1]} wide)"

    def owners(self) -> np.ndarray:
        """[V] int64, whose each vector is."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.starts))


def read_gallery(store: Store) -> Gallery:
    """Everybody in a store, as one state of it.

    Where a person has prototypes, these are the vectors; else there is one, the descriptor.

    Raises:
      InputError: nobody is enrolled, or the file is damaged.
    """
    with store.reading():
        dim = int(store.get("dim", 0))
        rows = store.sql.execute(
            "select name, vectors from people join descriptors on person = people.id"
        ).fetchall()
    if not rows:
        raise InputError(
            f"{store.path}: nobody is enrolled; begin with fpsset people {store.path} enrol FEATURES"
        )
    rows.sort()
    contents = store.unpacked([raw for _, raw in rows], 2 * dim)
    sizes = np.array([len(content) // (2 * dim) for content in contents])
    several = sizes > 1  # the first vector is then the descriptor of the whole set
    kept = b"".join(one[2 * dim * more :] for one, more in zip(contents, several.tolist(), strict=True))
    vectors = np.frombuffer(kept, np.float16)
    starts = np.concatenate([[0], np.cumsum(sizes - several)])
    return Gallery(np.array([name for name, _ in rows]), starts, vectors.reshape(-1, dim))
