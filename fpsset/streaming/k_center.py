"""Represents a stream of points by at most M of them (incremental k-center), without keeping the rest.

This is the doubling algorithm of Charikar, Chekuri, Feder and Motwani (STOC 1997). A point within a threshold
t of a representative joins the nearest one; any other point becomes a representative. When there are more
than M, t grows by the factor b, and representatives within t of another join it, until at most M are left.
With distances |u - v| between unit vectors:

- Of M + 1 points that are more than t apart, any M centers serve two by the same center. So the smallest
  radius possible with M centers is at least t / 2.
- Each time its representative joins another, a point gets farther from its representative by at most the
  threshold. So it lies within t (1 + 1/b + 1/b^2 + ...) = t b / (b - 1) of its current representative.

Together, the radius is at most 2 b^2 / (b - 1) times the smallest possible. This factor is smallest for
b = 2, where it is 8. A merge adds at most t for the points of one side. These are worst-case bounds; the
actual bounds for the points seen are tracked in `reach` and `least_radius`.
"""

import numpy as np

from fpsset.ops.metric import cosines_on_host

SAME = 1e-3  # points closer than this count as equal: it is the rounding error of float16


class KCenter:
    """At most M representatives of a stream of unit vectors, and how many points each represents.

    Attributes:
      size: M.
      growth: b > 1.
      threshold: t; 0 while there has been room for every distinct point.
      least_radius: lower bound on the radius that any M centers have.
    """

    def __init__(self, size: int, growth: float, dim: int):
        """Creates an empty one for points [D], D = `dim`."""
        self.size, self.growth, self.threshold, self.least_radius = size, growth, 0.0, 0.0
        self._held = 0
        rows = 2 * size  # the representatives, followed by the points that arrive
        self._rows = {
            "centers": np.zeros((rows, dim), np.float32),
            "norms": np.zeros(rows, np.float32),
            "counts": np.zeros(rows),
            "reach": np.zeros(rows),
        }

    def __len__(self) -> int:
        """The number of representatives held, m."""
        return self._held

    @property
    def centers(self) -> np.ndarray:
        """[m, D] float32 unit rows, the representatives."""
        return self._rows["centers"][: self._held]

    @property
    def norms(self) -> np.ndarray:
        """[m] float32, the norms of the representatives."""
        return self._rows["norms"][: self._held]

    @property
    def counts(self) -> np.ndarray:
        """[m] float64, the number of points that each representative stands for, itself included."""
        return self._rows["counts"][: self._held]

    @property
    def reach(self) -> np.ndarray:
        """[m] float64 in [0, 2], upper bound on the distance from a representative to any of its points."""
        return self._rows["reach"][: self._held]

    def add(
        self,
        centers: np.ndarray,
        norms: np.ndarray,
        counts: np.ndarray | float = 1,
        reach: np.ndarray | float = 0,
    ) -> None:
        """Adds points, or representatives of points.

        Args:
          centers: [n, D] float32 unit rows, n <= M.
          norms: [n] float32.
          counts: [n], see the property; 1 for single points.
          reach: [n], see the property; 0 for single points.
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
        """The state, for `of_state`: the four properties, `threshold` and `least_radius`."""
        rows = {name: values[: self._held] for name, values in self._rows.items()}
        return rows | {"threshold": self.threshold, "least_radius": self.least_radius}

    @classmethod
    def of_state(cls, size: int, growth: float, state: dict) -> "KCenter":
        """Restores the state that `state` returned."""
        made = cls(size, growth, state["centers"].shape[1])
        made.add(state["centers"], state["norms"], state["counts"], state["reach"])
        made.threshold, made.least_radius = float(state["threshold"]), float(state["least_radius"])
        return made

    def merge(self, other: "KCenter") -> None:
        """Adds everything that another instance of the same size and growth represents; it is not changed."""
        self.threshold = max(self.threshold, other.threshold)
        self.least_radius = max(self.least_radius, other.least_radius)
        self.add(other.centers, other.norms, other.counts, other.reach)

    def _join(self, apart: np.ndarray, first: int) -> None:
        """Lets each row from `first` on join a kept row within the threshold, or keeps it.

        Args:
          apart: [n, first + n] distances of rows from `first` on to all rows.
          first: rows before this one are kept.
        """
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
    """Distances |u - v| between unit rows: [n, D], [m, D] -> [n, m] float32."""
    squared = cosines_on_host(left, right)
    squared *= -2
    squared += 2
    return np.sqrt(np.maximum(squared, 0, out=squared), out=squared)
