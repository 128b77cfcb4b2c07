"""Approximate search by a faiss index that was exported: candidates from the index, scores from the store."""

import pathlib

import numpy as np

from fpsset.errors import InputError, first_line
from fpsset.people.exports import gallery_digest, import_faiss, read_side_file
from fpsset.people.gallery import Gallery
from fpsset.people.search import Found, scores_of

PROBED = 32  # lists of the index, in each of which a query is compared with everybody
_CANDIDATES = 4  # vectors per person wanted


class ApproximateSearch:
    """Searches a gallery by an index of it. Scores are exact; people may be missed."""

    def __init__(self, gallery: Gallery, path: pathlib.Path, probed: int = PROBED):
        """Reads an index.

        Args:
          gallery: the store's people.
          path: of the index that `export --to faiss` wrote.
          probed: lists to look at; more find more, and take longer.

        Raises:
          InputError: faiss is not installed, there is no such index, or it is of another gallery.
        """
        if read_side_file(path)["gallery"] != gallery_digest(gallery):
            raise InputError(f"{path}: the store has changed since it was exported; export again")
        faiss = import_faiss()
        try:
            self._index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise InputError(f"{path}: cannot be read ({first_line(error)}); export again") from error
        if hasattr(self._index, "nprobe"):
            self._index.nprobe = probed
        if (self._index.ntotal, self._index.d) != gallery.vectors.shape:
            raise InputError(f"{path}: is an index of other vectors; export again")
        self._gallery, self._owners = gallery, gallery.owners()

    def __call__(self, queries: np.ndarray, count: int) -> Found:
        """The best people for each query that the index finds: see `ExactSearch`."""
        count = min(count, len(self._gallery.names))
        _, near = self._index.search(np.ascontiguousarray(queries, np.float32), _CANDIDATES * count)
        scores = np.full((len(queries), count), -np.inf, np.float32)
        people = np.full((len(queries), count), -1, np.int64)
        for row, vectors in enumerate(near):
            who = np.unique(self._owners[vectors[vectors >= 0]])
            found = scores_of(np.repeat(queries[row : row + 1], len(who), 0), self._gallery, who)
            best = np.lexsort((who, -found))[:count]
            scores[row, : len(best)], people[row, : len(best)] = found[best], who[best]
        return Found(scores, people)
