"""Farthest-point sampling over faces that arrive one after another and are not kept.

As long as the earlier picks do not change, a pick is the best face so far, which takes one comparison. When a
pick changes, the later ones must be chosen again among all earlier faces, of which only runners-up are kept.

Which faces will be far from a future pick? A future pick will resemble the current runners-up for its place.
So the runners-up of a pick are the S faces farthest from stand-ins for the earlier picks: the mean of each
one's first runners-up, which hardly changes when that pick does. No two runners-up are nearly equal, so that
a clip takes only one place.

A new pick is exact if it was a runner-up, otherwise nearly as far. Ties are broken by content,
see `ops.ties`, so that the order in which equally good faces arrive does not matter.
"""

import numpy as np

from fpsset.ops.metric import cosines_on_host
from fpsset.ops.ties import outranks, ranked
from fpsset.streaming.k_center import SAME

_ALIKE = 0.985  # of two runners-up with a larger cosine, only the better one is kept
_COLUMNS = ("faces", "norms", "scores")
_FIRST = 32  # number of runners-up whose mean stands in for a future pick


class RunningPicks:
    """The coreset of a stream so far, and its runners-up.

    Attributes:
      faces: [k, D] float32 unit rows, the picks; k is K or the number of distinct faces, if smaller.
      norms: [k] float32, the norms of the picks.
      scores: [K] float32, the score that each pick was chosen by; -inf from k on.
      runners: K `Runners`, one for each pick.
    """

    def __init__(self, size: int, spares: int, gamma: float, dim: int):
        """Creates an empty coreset.

        Args:
          size: K.
          spares: S, runners-up kept for each pick; for the first pick, at most 32.
          gamma: exponent of the norm in the metric.
          dim: D.
        """
        self._size, self._gamma = size, np.float32(gamma)
        self.faces, self.norms = np.zeros((0, dim), np.float32), np.zeros(0, np.float32)
        self.scores = np.full(size, -np.inf, np.float32)
        self.runners = [Runners(spares if number else min(_FIRST, spares), dim) for number in range(size)]

    def state(self) -> dict[str, np.ndarray]:
        """The state, for `of_state`: columns of the picks and of all runners-up."""
        state = {f"pick_{name}": getattr(self, name) for name in _COLUMNS}
        for name in _COLUMNS:
            state[f"runner_{name}"] = np.concatenate([getattr(slot, name) for slot in self.runners])
        return state | {"runner_counts": np.array([len(slot.norms) for slot in self.runners])}

    @classmethod
    def of_state(cls, size: int, spares: int, gamma: float, state: dict) -> "RunningPicks":
        """Restores the state that `state` returned."""
        made = cls(size, spares, gamma, state["pick_faces"].shape[1])
        made.faces, made.norms, made.scores = (state[f"pick_{name}"] for name in _COLUMNS)
        ends = np.cumsum(state["runner_counts"])[:-1]
        parts = zip(*(np.split(state[f"runner_{name}"], ends) for name in _COLUMNS), strict=True)
        for slot, part in zip(made.runners, parts, strict=True):
            slot.put(*part)
        return made

    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """All picks and runners-up, possibly with duplicates: (faces [n, D], norms [n])."""
        return _joined([(self.faces, self.norms), *((slot.faces, slot.norms) for slot in self.runners)])

    def add(self, faces: np.ndarray, norms: np.ndarray, others: tuple[np.ndarray, np.ndarray]) -> None:
        """Adds faces.

        Args:
          faces: [n, D] float32 unit rows.
          norms: [n] float32, >= 0.
          others: (faces [m, D], norms [m]), earlier faces kept elsewhere; candidates when a pick changes.
        """
        scores = [self._scores(faces, norms, self.faces[:number]) for number in range(self._size)]
        if any(self._improves(number, new, faces, norms) for number, new in enumerate(scores)):
            self._choose(*_joined([self.known(), others, (faces, norms)]))
        means = []
        for slot in self.runners:
            slot.offer(faces, norms, lambda faces, norms: self._scores(faces, norms, means))
            means.append(slot.mean)

    def _improves(self, number: int, scores: np.ndarray, faces: np.ndarray, norms: np.ndarray) -> bool:
        """Whether a face is better than the pick of this number, or fills its free place."""
        best, old = scores.max(), self.scores[number]
        if best != old or best == -np.inf:
            return bool(best > old)
        rows = np.flatnonzero(scores == best)
        row = rows[ranked(scores[rows], norms[rows], faces[rows])[0]]
        return outranks(best, norms[row], faces[row], (old, self.norms[number], self.faces[number]))

    def _choose(self, faces: np.ndarray, norms: np.ndarray) -> None:
        """Makes all picks again, among the given faces."""
        picks, self.scores = [], np.full(self._size, -np.inf, np.float32)
        for number in range(self._size):
            scores = self._scores(faces, norms, faces[picks])
            top = np.flatnonzero(scores == scores.max())
            if scores[top[0]] == -np.inf:  # only duplicates of the picks are left
                break
            best = int(top[ranked(scores[top], norms[top], faces[top])[0]]) if len(top) > 1 else int(top[0])
            picks.append(best)
            self.scores[number] = scores[best]
        self.faces, self.norms = faces[picks], norms[picks]

    def _scores(self, faces: np.ndarray, norms: np.ndarray, before) -> np.ndarray:
        """[n] scores for the pick that follows the picks `before`; -inf for duplicates of these."""
        if not len(before):
            return norms
        distance = (1 - cosines_on_host(np.stack(before), faces).max(axis=0)) / 2
        # The same as `ops.metric.norm_weight`, in NumPy.
        weight = np.where(norms > 0, np.where(norms > 0, norms, 1) ** self._gamma, self._gamma == 0)
        return np.where(4 * distance <= SAME**2, -np.inf, weight * distance)


class Runners:
    """The best faces by a score, no two of them nearly equal, best first.

    Attributes:
      faces: [s, D] float32 unit rows.
      norms: [s] float32.
      scores: [s] float32, decreasing, at the last comparison.
      mean: [D] float32, the mean of the first 32 faces.
    """

    def __init__(self, size: int, dim: int):
        """Creates an empty list with room for `size` faces [D], D = `dim`."""
        self._size = size
        self.put(np.zeros((0, dim), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32))

    def put(self, faces: np.ndarray, norms: np.ndarray, scores: np.ndarray) -> None:
        """Replaces all faces, with their norms and scores."""
        self.faces, self.norms, self.scores = faces, norms, scores
        self.mean = faces[:_FIRST].sum(axis=0) / max(1, len(faces[:_FIRST]))

    def offer(self, faces: np.ndarray, norms: np.ndarray, score) -> None:
        """Adds the faces that score better than the last runner-up, or fill free places.

        Args:
          faces: [n, D] float32 unit rows.
          norms: [n] float32.
          score: function of (faces [n, D], norms [n]) that returns scores [n] float32.
        """
        scores, held = score(faces, norms), len(self.norms)
        better = np.flatnonzero(scores >= (self.scores[-1] if held == self._size else -np.inf))
        if not len(better):
            return
        faces, norms = _joined([(self.faces, self.norms), (faces[better], norms[better])])
        scores = np.concatenate([score(self.faces, self.norms), scores[better]])
        order = ranked(scores, norms, faces)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        rows = order[order >= held]
        if held == self._size:
            rows = rows[rank[rows] < rank[:held].max()]
        alike, kept, found = cosines_on_host(faces[held:], faces) > _ALIKE, np.arange(len(scores)) < held, 0
        for row in rows:
            rivals = alike[row - held] & kept
            if not (rivals & (rank < rank[row])).any():
                kept[rivals], kept[row], found = False, True, found + 1
            if found == self._size:
                break
        places = order[kept[order]][: self._size]
        self.put(faces[places], norms[places], scores[places])


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    faces, norms = zip(*parts, strict=True)
    return np.concatenate(faces), np.concatenate(norms)
