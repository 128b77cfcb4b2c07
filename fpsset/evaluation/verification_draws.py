"""Figures of 1:1 verification in every draw of the subjects."""

import bisect
import concurrent.futures
import math
import os

import numpy as np

from fpsset.evaluation.resampling import SubjectDraws
from fpsset.evaluation.verification import FARS, Pairs, far_name, nearest_vertices
from fpsset.runtime.progress import tracked

_TABLE = 1 << 24  # entries of a table of pairs of subjects at a time
_WINDOW = 2000  # scores on either side of a target that are looked at first
_SAMPLE = 1_000_000  # impostor pairs that the area under the curve is drawn on


class VerificationDraws:
    """Resampled verification of methods scored on the same pairs.

    Only the highest impostor scores decide a FAR, so a draw sums the weights of those alone; where a draw
    needs more of them, more are taken. TAR and EER are exact. The area under the curve is drawn on at most
    a million impostor pairs, picked at random, which moves an interval's ends by far less than its width.
    """

    def __init__(self, pairs: Pairs, draws: SubjectDraws, convention: str = "conservative"):
        """Prepares the draws for P pairs; `convention` is a name of `CONVENTIONS`, of TAR at FAR."""
        self._draws, self._weights, self._convention = draws, draws.weights, convention
        self._genuine, self._impostors = np.flatnonzero(pairs.same), np.flatnonzero(~pairs.same)
        self._owner = draws.codes[pairs.first[self._genuine]]
        self._first = draws.codes[pairs.first[self._impostors]]
        self._second = draws.codes[pairs.second[self._impostors]]
        self._totals = _totals(self._weights, self._first, self._second) if len(draws) else np.empty(0)
        count = len(self._impostors)
        self._sample = np.arange(count)
        if count > _SAMPLE:
            self._sample = np.random.default_rng(draws.seed).choice(count, _SAMPLE, replace=False)

    def __call__(self, scores: np.ndarray, fars=FARS, area: bool = True) -> dict[str, np.ndarray]:
        """Draws of each figure; thresholds too are set anew.

        Args:
          scores: [P] of the pairs.
          fars: targets; conservatively those that allow less than one impostor are left out.
          area: draw the area under the curve too, which takes the longest.

        Returns:
          'tar@far=...', 'threshold@far=...', 'eer' and 'auc' -> [R] float64, NaN where a draw has no genuine
          or no impostor pair, thresholds also where it accepts all; empty where there are no draws.
        """
        if not len(self._draws):
            return {}
        impostors = scores[self._impostors]
        if self._convention == "conservative":
            fars = [far for far in fars if far * len(impostors) + 1e-6 >= 1]
        order = np.argsort(-scores[self._genuine], kind="stable")
        genuine, owner = scores[self._genuine][order], self._owner[order]
        keep = min(len(impostors), math.ceil(1.25 * max(fars, default=0.0) * len(impostors)) + 1000)
        figures = None
        while figures is None:
            figures = self._tars_and_eer(impostors, genuine, owner, fars, keep)
            keep = min(len(impostors), 2 * keep)
        if area:
            figures["auc"] = self._auc(impostors, genuine, owner)
        return figures

    def _tars_and_eer(self, impostors, genuine, owner, fars, keep) -> dict[str, np.ndarray] | None:
        """By the `keep` highest impostor scores; None where a draw needs more."""
        whole = keep == len(impostors)
        top = np.arange(keep) if whole else np.argpartition(-impostors, keep - 1)[:keep]
        top = top[np.argsort(-impostors[top], kind="stable")]
        first, second = self._first[top], self._second[top]
        # Genuine scores above each impostor's: what is accepted where that impostor is the first refused.
        above = np.searchsorted(-genuine, -impostors[top], side="left")
        if whole:
            above = np.append(above, len(genuine))
        if self._convention == "conservative":
            read = _conservative(impostors[top], above, fars)
        else:
            read = _nearest(impostors[top], genuine, whole, fars)

        def draw(number: int) -> list[float] | None:
            weight, total = self._weights[number], self._totals[number]
            accepted = np.concatenate([[0.0], np.cumsum(weight[owner], dtype=np.float64)])
            if not accepted[-1] or not total:
                return [math.nan] * (2 * len(fars) + 1)
            false = np.concatenate([[0.0], np.cumsum(weight[first] * weight[second], dtype=np.float64)])

            def excess(place: int) -> float:
                """FAR less FRR where the impostor at `place` is the first refused."""
                return false[place] / total + accepted[above[place]] / accepted[-1] - 1

            crossing = bisect.bisect_left(range(len(above)), 0.0, key=excess)
            tars, thresholds, furthest = read(false, accepted, total)
            if not whole and max(crossing, furthest) >= keep:
                return None
            nearest = min((max(crossing - 1, 0), min(crossing, len(above) - 1)), key=lambda p: abs(excess(p)))
            frr = 1 - accepted[above[nearest]] / accepted[-1]
            return [*tars, *thresholds, frr + excess(nearest) / 2]

        rows = _on_all_cores(draw, len(self._draws))
        if any(row is None for row in rows):
            return None
        names = [f"{figure}@far={far_name(far)}" for figure in ("tar", "threshold") for far in fars] + ["eer"]
        return dict(zip(names, np.array(rows).T, strict=True))

    def _auc(self, impostors, genuine, owner) -> np.ndarray:
        sample = self._sample[np.argsort(-impostors[self._sample], kind="stable")]
        first, second = self._first[sample], self._second[sample]
        higher, as_high = (
            np.searchsorted(-impostors[sample], -genuine, side=side) for side in ("left", "right")
        )

        def draw(number: int) -> float:
            weight = self._weights[number]
            false = np.concatenate([[0.0], np.cumsum(weight[first] * weight[second], dtype=np.float64)])
            times = weight[owner].astype(np.float64)
            if not times.any() or not false[-1]:
                return math.nan
            above = (false[higher] + false[as_high]) / (2 * false[-1])
            return 1 - float(times @ above) / times.sum()

        return np.array(_on_all_cores(draw, len(self._draws)))


def _conservative(impostors: np.ndarray, above: np.ndarray, fars):
    """How a draw reads TAR as `operating_points` does.

    Args:
      impostors: [I] the highest scores, falling.
      above: genuine scores above each.
      fars: targets.

    Returns:
      A function of what a draw accepts before each impostor and genuine pair, and of its impostors in all ->
      (TARs, thresholds, how many of the impostors it had to see).
    """
    refused = np.append(impostors, math.nan)

    def read(false: np.ndarray, accepted: np.ndarray, total: float):
        places = np.searchsorted(false[1:], np.array(fars) * total + 1e-6, side="right")
        seen = int(max(places, default=0))
        return accepted[above[np.minimum(places, len(above) - 1)]] / accepted[-1], refused[places], seen

    return read


def _nearest(impostors: np.ndarray, genuine: np.ndarray, whole: bool, fars):
    """How a draw reads TAR as `nearest_operating_points` does; arguments and result as of `_conservative`.

    Args:
      impostors: as there.
      genuine: [G] all scores, falling.
      whole: the impostors are all there are; else the run of ties at the last may not be.
      fars: targets.
    """
    levels = np.unique(np.concatenate([impostors, genuine]))[::-1]
    levels = levels if whole else levels[levels > impostors[-1]]
    before = [np.searchsorted(-scores, -levels, side="right") for scores in (impostors, genuine)]
    # At -1 nothing is accepted.
    thresholds = np.nextafter(np.append(levels, np.inf), -np.inf, dtype=np.float64)
    genuine_before = np.append(before[1], 0)

    def vertex(false: np.ndarray, accepted: np.ndarray, total: float, far: float, width: int) -> int | None:
        """The place of the vertex nearest to a target, -1 before the first, or None if it is further away.

        Past the last level where it takes more impostors to tell.
        """
        middle = np.searchsorted(before[0], np.searchsorted(false, far * total))
        start, stop = max(middle - width, 0), min(middle + width, len(levels))
        part = slice(max(start - 1, 0), stop)
        curve = np.stack([false[before[0][part]], accepted[before[1][part]]])
        steps = np.diff(curve) if start else np.diff(curve, prepend=0.0)
        moved = np.flatnonzero(steps.any(0))  # the others were not drawn
        (place,) = nearest_vertices(*curve[:, moved + (start > 0)], total, (far,))
        # The ends of a part look like vertices.
        last = place == len(moved) - 1
        if (start and place <= 0) or (last and stop < len(levels)):
            return None
        if last and not whole:
            return len(levels)
        return start + int(moved[place]) if place >= 0 else -1

    def read(false: np.ndarray, accepted: np.ndarray, total: float):
        places = []
        for far in fars:
            width = _WINDOW
            while (place := vertex(false, accepted, total, far, width)) is None:
                width *= 8
            places.append(place)
        seen = len(impostors) * int(len(levels) in places)
        return accepted[genuine_before[places]] / accepted[-1], thresholds[places], seen

    return read


def _on_all_cores(function, count: int) -> list:
    """Of 0 to count - 1; NumPy lets threads run side by side."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(tracked(threads.map(function, range(count)), count, "resampling", "draws"))


def _totals(weights: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Weight of all impostor pairs in each draw, by a table of how many any two subjects have: [R]."""
    count = weights.shape[1]
    rows = max(1, _TABLE // count)
    weights = weights.astype(np.float64)
    totals = np.zeros(len(weights))
    for start in range(0, count, rows):
        part = slice(start, min(start + rows, count))
        inside = (first >= part.start) & (first < part.stop) if rows < count else slice(None)
        key = (first[inside].astype(np.int64) - start) * count + second[inside]
        table = np.bincount(key, minlength=(part.stop - start) * count).reshape(-1, count)
        totals += (weights[:, part] @ table * weights).sum(1)
    return totals
