"""Farthest-point sampling among faces that arrive and are not kept.

While the picks before it stay, a pick is the best face of all so far: one number to compare. When a pick
changes, the later ones must be chosen again among all that came earlier, and of these only runners-up are
known. Which faces are far from a pick yet to come? Such a pick will be much like those that nearly were in
its place. So the runners-up of a pick are the S best by their distance to the mean of the first runners-up of
each pick before it, which hardly changes when these do. No two of them are alike, so that a clip takes
one place.

A new pick is that of all faces wherever this is a runner-up, and another one nearly as far where not.
"""

import numpy as np

from fpsset.ops.metric import cosines_on_host
from fpsset.streaming.k_center import SAME

_ALIKE = 0.985  # cosine from which only the better one of two runners-up is kept
_COLUMNS = ("faces", "norms", "scores")
_FIRST = 32  # runners-up that stand for picks yet to come


class RunningPicks:
    """The coreset of a stream so far, and runners-up.

    Attributes:
      faces: [k, D] float32 unit rows of the picks, k <= K where there are fewer different faces.
      norms: [k] float32, theirs.
      scores: [K] float32, by which they were chosen; -inf behind them.
      runners: [K] `Runners`, of each pick.
    """

    def __init__(self, size: int, spares: int, gamma: float, dim: int):
        """Of no faces.

        Args:
          size: K.
          spares: S, runners-up of each pick but the first, which needs few.
          gamma: exponent of the norm in the metric.
          dim: D.
        """
        self._size, self._gamma = size, np.float32(gamma)
        self.faces, self.norms = np.zeros((0, dim), np.float32), np.zeros(0, np.float32)
        self.scores = np.full(size, -np.inf, np.float32)
        self.runners = [Runners(spares if number else min(_FIRST, spares), dim) for number in range(size)]

    def state(self) -> dict[str, np.ndarray]:
        """What `of_state` makes an equal one of: columns of the picks and of all runners-up."""
        state = {f"pick_{name}": getattr(self, name) for name in _COLUMNS}
        for name in _COLUMNS:
            state[f"runner_{name}"] = np.concatenate([getattr(slot, name) for slot in self.runners])
        return state | {"runner_counts": np.array([len(slot.norms) for slot in self.runners])}

    @classmethod
    def of_state(cls, size: int, spares: int, gamma: float, state: dict) -> "RunningPicks":
        """One with the state that `state` gave."""
        made = cls(size, spares, gamma, state["pick_faces"].shape[1])
        made.faces, made.norms, made.scores = (state[f"pick_{name}"] for name in _COLUMNS)
        ends = np.cumsum(state["runner_counts"])[:-1]
        parts = zip(*(np.split(state[f"runner_{name}"], ends) for name in _COLUMNS), strict=True)
        for slot, part in zip(made.runners, parts, strict=True):
            slot.put(*part)
        return made

    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """([n, D], [n]): picks and runners-up; a face may be there more than once."""
        return _joined([(self.faces, self.norms), *((slot.faces, slot.norms) for slot in self.runners)])

    def add(self, faces: np.ndarray, norms: np.ndarray, others: tuple[np.ndarray, np.ndarray]) -> None:
        """Takes faces in.

        Args:
          faces: [n, D] unit rows.
          norms: [n].
          others: ([m, D], [m]), earlier faces known elsewhere, which are looked at when a pick changes.
        """
        scores = [self._scores(faces, norms, self.faces[:number]) for number in range(self._size)]
        if any(new.max() > old for new, old in zip(scores, self.scores, strict=True)):
            self._choose(*_joined([self.known(), others, (faces, norms)]))
        means = []
        for slot in self.runners:
            slot.offer(faces, norms, lambda faces, norms: self._scores(faces, norms, means))
            means.append(slot.mean)

    def _choose(self, faces: np.ndarray, norms: np.ndarray) -> None:
        """Picks anew."""
        picks, self.scores = [], np.full(self._size, -np.inf, np.float32)
        for number in range(self._size):
            scores = self._scores(faces, norms, faces[picks])
            best = int(scores.argmax())
            if scores[best] == -np.inf:  # what is left are the picks again
                break
            picks.append(best)
            self.scores[number] = scores[best]
        self.faces, self.norms = faces[picks], norms[picks]

    def _scores(self, faces: np.ndarray, norms: np.ndarray, before) -> np.ndarray:
        """[n], what the pick after those `before` is chosen by; -inf for faces that are one of them."""
        if not len(before):
            return norms
        distance = (1 - cosines_on_host(np.stack(before), faces).max(axis=0)) / 2
        # As `ops.metric.norm_weight`.
        weight = np.where(norms > 0, np.where(norms > 0, norms, 1) ** self._gamma, self._gamma == 0)
        return np.where(4 * distance <= SAME**2, -np.inf, weight * distance)


class Runners:
    """The best faces by a score, no two of them alike, the best one first.

    Attributes:
      faces: [s, D] float32 unit rows.
      norms: [s] float32.
      scores: [s] float32, falling, when they were last compared.
      mean: [D] of the first of them.
    """

    def __init__(self, size: int, dim: int):
        """None, with `size` places."""
        self._size = size
        self.put(np.zeros((0, dim), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32))

    def put(self, faces: np.ndarray, norms: np.ndarray, scores: np.ndarray) -> None:
        """Sets all."""
        self.faces, self.norms, self.scores = faces, norms, scores
        self.mean = faces[:_FIRST].sum(axis=0) / max(1, len(faces[:_FIRST]))

    def offer(self, faces: np.ndarray, norms: np.ndarray, score) -> None:
        """Takes what is better than the last, or finds a place.

        Args:
          faces: [n, D] unit rows.
          norms: [n].
          score: of faces and norms: [n] float32.
        """
        scores, held = score(faces, norms), len(self.norms)
        better = np.flatnonzero(scores > (self.scores[-1] if held == self._size else -np.inf))
        if not len(better):
            return
        better = better[np.argsort(-scores[better], kind="stable")]
        faces, norms = _joined([(self.faces, self.norms), (faces[better], norms[better])])
        scores = np.concatenate([score(self.faces, self.norms), scores[better]])
        alike, kept, found = cosines_on_host(faces[held:], faces) > _ALIKE, np.arange(len(scores)) < held, 0
        for row in range(held, len(scores)):
            rivals = alike[row - held] & kept
            if not (rivals & (scores >= scores[row])).any():
                kept[rivals], kept[row], found = False, True, found + 1
            if found == self._size:
                break
        places = np.flatnonzero(kept)
        places = places[np.argsort(-scores[places], kind="stable")][: self._size]
        self.put(faces[places], norms[places], scores[places])


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    faces, norms = zip(*parts, strict=True)
    return np.concatenate(faces), np.concatenate(norms)
