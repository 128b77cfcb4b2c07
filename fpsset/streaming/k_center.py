"""A cover of points that arrive and are not kept: at most M of them stand for all.

Incremental k-center (the doubling algorithm of Charikar, Chekuri, Feder and Motwani, STOC 1997). A point
within a threshold t of a representative joins the nearest; any other becomes one itself. When there are more
than M, t grows by the factor b until those that now lie within t of another, and join it, leave M. With
distances |u - v| of unit vectors:

- Of M + 1 points more than t apart two share a center in any cover by M, so the best cover by M has a radius
  of at least t / 2.
- A point moves by at most the threshold each time its representative joins another, so it lies within
  t (1 + 1/b + 1/b^2 + ...) = t b / (b - 1) of the one that now stands for it.

Together the radius is at most 2 b^2 / (b - 1) times the best one's: 8 for b = 2, where that is least. A merge
moves the points of one side once more, by at most t. All this is of the worst points in the worst order; both
sides are therefore counted as they turn out, in `reach` and `least_radius`.
"""

import numpy as np

from fpsset.ops.metric import cosines_on_host

SAME = 1e-3  # points nearer than this are one from the start: float16 rounds by as much


class KCenter:
    """At most M representatives of unit vectors, and how many each stands for.

    Attributes:
      size: M.
      growth: b.
      threshold: t.
      least_radius: no cover by M has a smaller radius.
    """

    def __init__(self, size: int, growth: float, dim: int):
        """Of no points [D]."""
        self.size, self.growth, self.threshold, self.least_radius = size, growth, 0.0, 0.0
        self._held = 0
        rows = 2 * size  # the representatives, and behind them what arrives
        self._rows = {
            "centers": np.zeros((rows, dim), np.float32),
            "norms": np.zeros(rows, np.float32),
            "counts": np.zeros(rows),
            "reach": np.zeros(rows),
        }

    def __len__(self) -> int:
        """Representatives held."""
        return self._held

    @property
    def centers(self) -> np.ndarray:
        """[m, D] float32, points that are representatives."""
        return self._rows["centers"][: self._held]

    @property
    def norms(self) -> np.ndarray:
        """[m] float32, theirs."""
        return self._rows["norms"][: self._held]

    @property
    def counts(self) -> np.ndarray:
        """[m] float64, points each stands for."""
        return self._rows["counts"][: self._held]

    @property
    def reach(self) -> np.ndarray:
        """[m] float64: what a representative stands for lies within its reach."""
        return self._rows["reach"][: self._held]

    def add(
        self,
        centers: np.ndarray,
        norms: np.ndarray,
        counts: np.ndarray | float = 1,
        reach: np.ndarray | float = 0,
    ) -> None:
        """Takes in at most M points, or representatives of others with what they stand for.

        Args:
          centers: [n, D] unit rows.
          norms: [n].
          counts: [n], 1 for points.
          reach: [n], 0 for points.
        """
        first, last = self._held, self._held + len(centers)
        for name, new in (("centers", centers), ("norms", norms), ("counts", counts), ("reach", reach)):
            self._rows[name][first:last] = new
        self._join(_apart(self._rows["centers"][first:last], self._rows["centers"][:last]), first)
        while self._held > self.size:
            apart = _apart(self.centers, self.centers)
            np.fill_diagonal(apart, np.inf)
            nearest = float(apart.min())
            self.least_radius = max(self.least_radius, nearest / 2)
            self.threshold = max(self.growth * self.threshold, nearest)
            self._join(apart, 0)

    def state(self) -> dict[str, np.ndarray | float]:
        """What `of_state` makes an equal one of: `centers`, `norms`, `counts`, `reach` and two numbers."""
        rows = {name: values[: self._held] for name, values in self._rows.items()}
        return rows | {"threshold": self.threshold, "least_radius": self.least_radius}

    @classmethod
    def of_state(cls, size: int, growth: float, state: dict) -> "KCenter":
        """One with the state that `state` gave."""
        made = cls(size, growth, state["centers"].shape[1])
        made.add(state["centers"], state["norms"], state["counts"], state["reach"])
        made.threshold, made.least_radius = float(state["threshold"]), float(state["least_radius"])
        return made

    def merge(self, other: "KCenter") -> None:
        """Takes in what another of the same size and growth stands for; that stays as it is."""
        self.threshold = max(self.threshold, other.threshold)
        self.least_radius = max(self.least_radius, other.least_radius)
        self.add(other.centers, other.norms, other.counts, other.reach)

    def _join(self, apart: np.ndarray, first: int) -> None:
        """Rows from `first` on, whose distances to all are given, join one kept or are kept themselves."""
        near = apart <= max(self.threshold, SAME)
        kept, covered = np.zeros(near.shape[1], bool), near[:, :first].any(axis=1)
        kept[:first] = True
        while not covered.all():
            row = int(covered.argmin())
            kept[first + row] = covered[row] = True
            covered |= near[:, first + row]
        joins, stays = np.flatnonzero(~kept[first:]), first + np.flatnonzero(kept[first:])
        if len(joins):
            places = np.flatnonzero(kept)
            distances = apart[joins][:, places]
            nearest = distances.argmin(axis=1)
            owners, reach = places[nearest], self._rows["reach"]
            np.add.at(self._rows["counts"], owners, self._rows["counts"][joins + first])
            moved = reach[joins + first] + distances[np.arange(len(joins)), nearest]
            np.maximum.at(reach, owners, np.minimum(moved, 2))
        self._held = first + len(stays)
        for rows in self._rows.values():
            rows[first : self._held] = rows[stays]


def _apart(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Distances of unit rows: [n, D], [m, D] -> [n, m]."""
    squared = cosines_on_host(left, right)
    squared *= -2
    squared += 2
    return np.sqrt(np.maximum(squared, 0, out=squared), out=squared)
