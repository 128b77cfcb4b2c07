"""1:1 verification in every draw of the subjects."""

import bisect
import concurrent.futures
import math
import os

import numpy as np

from fpsset.evaluation.resampling import NO_DRAWS, SubjectDraws
from fpsset.evaluation.verification import FARS, NOT_DRAWN, DrawnVerification, Pairs, nearest_vertices
from fpsset.runtime.progress import tracked

_TABLE = 1 << 24  # entries per block of the subject-by-subject table
_WINDOW = 2000  # scores on either side of a target that are searched first
_SAMPLE = 1_000_000  # impostor pairs for the draws of the area under the curve


class VerificationDraws:
    """Resamples verification for methods that are scored on the same pairs.

    Only the highest impostor scores decide a FAR, so each draw sums the weights of those; if a draw needs
    more of them, more are taken. TAR and EER are exact. The area under the curve uses at most a million
    impostor pairs, picked at random, which moves an interval's ends by far less than its width.
    """

    def __init__(self, pairs: Pairs, draws: SubjectDraws, convention: str = "conservative"):
        """Prepares the draws for P pairs; `convention` names one of `CONVENTIONS`."""
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

    def __call__(self, scores: np.ndarray, fars=FARS, area: bool = True) -> DrawnVerification:
        """The figures in each draw, thresholds set anew.

        Args:
          scores: [P] of the pairs.
          fars: targets; the conservative convention leaves out those that allow less than one impostor pair.
          area: also draw the area under the curve, the slowest figure.

        Returns:
          Figures that are NaN where a draw has no genuine or no impostor pair, and thresholds also where it
          accepts every pair; `NOT_DRAWN` without draws.
        """
        if not len(self._draws):
            return NOT_DRAWN
        impostors = scores[self._impostors]
        if self._convention == "conservative":
            fars = [far for far in fars if far * len(impostors) + 1e-6 >= 1]
        order = np.argsort(-scores[self._genuine], kind="stable")
        genuine, owner = scores[self._genuine][order], self._owner[order]
        keep = min(len(impostors), math.ceil(1.25 * max(fars, default=0.0) * len(impostors)) + 1000)
        rows = None
        while rows is None:
            rows = self._tars_and_eer(impostors, genuine, owner, fars, keep)
            keep = min(len(impostors), 2 * keep)
        *figures, eer = np.array(rows).T
        tar, threshold = figures[: len(fars)], figures[len(fars) :]
        auc = self._auc(impostors, genuine, owner) if area else NO_DRAWS
        return DrawnVerification(
            dict(zip(fars, tar, strict=True)), dict(zip(fars, threshold, strict=True)), eer, auc
        )

    def _tars_and_eer(self, impostors, genuine, owner, fars, keep) -> list[list[float]] | None:
        """A row [F TARs, F thresholds, EER] per draw, from the `keep` highest impostor scores.

        None if a draw needs more scores.
        """
        whole = keep == len(impostors)
        top = np.arange(keep) if whole else np.argpartition(-impostors, keep - 1)[:keep]
        top = top[np.argsort(-impostors[top], kind="stable")]
        first, second = self._first[top], self._second[top]
        # Genuine scores above each impostor's: those accepted if that impostor is the first rejected.
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
                """FAR - FRR if the impostor at `place` is the first rejected."""
                return false[place] / total + accepted[above[place]] / accepted[-1] - 1

            crossing = bisect.bisect_left(range(len(above)), 0.0, key=excess)
            tars, thresholds, furthest = read(false, accepted, total)
            if not whole and max(crossing, furthest) >= keep:
                return None
            nearest = min((max(crossing - 1, 0), min(crossing, len(above) - 1)), key=lambda p: abs(excess(p)))
            frr = 1 - accepted[above[nearest]] / accepted[-1]
            return [*tars, *thresholds, frr + excess(nearest) / 2]

        rows = _on_all_cores(draw, len(self._draws))
        return None if any(row is None for row in rows) else rows

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
    """Makes the function that reads the TARs of a draw as `operating_points` does.

    Args:
      impostors: [I] the highest scores, descending.
      above: number of genuine scores above each.
      fars: F targets.

    Returns:
      (cumulative weights of the impostor pairs, of the genuine pairs, total weight of the impostor pairs) ->
      (F TARs, F thresholds, how many of the I impostor scores were needed).
    """
    thresholds = np.append(impostors, math.nan)

    def read(false: np.ndarray, accepted: np.ndarray, total: float):
        places = np.searchsorted(false[1:], np.array(fars) * total + 1e-6, side="right")
        seen = int(max(places, default=0))
        return accepted[above[np.minimum(places, len(above) - 1)]] / accepted[-1], thresholds[places], seen

    return read


def _nearest(impostors: np.ndarray, genuine: np.ndarray, whole: bool, fars):
    """Makes the function that reads the TARs of a draw as `nearest_operating_points` does.

    Args:
      impostors: [I] the highest scores, descending.
      genuine: [G] all scores, descending.
      whole: whether `impostors` are all there are; otherwise ties with the last may be missing.
      fars: F targets.

    Returns:
      See `_conservative`.
    """
    levels = np.unique(np.concatenate([impostors, genuine]))[::-1]
    levels = levels if whole else levels[levels > impostors[-1]]
    before = [np.searchsorted(-scores, -levels, side="right") for scores in (impostors, genuine)]
    # Position -1 accepts nothing.
    thresholds = np.nextafter(np.append(levels, np.inf), -np.inf, dtype=np.float64)
    genuine_before = np.append(before[1], 0)

    def vertex(false: np.ndarray, accepted: np.ndarray, total: float, far: float, width: int) -> int | None:
        """Level of the vertex nearest to a target, searched within `width` levels.

        -1 is the origin, len(levels) means that more impostor scores are needed, None that the vertex may lie
        outside the window.
        """
        middle = np.searchsorted(before[0], np.searchsorted(false, far * total))
        start, stop = max(middle - width, 0), min(middle + width, len(levels))
        part = slice(max(start - 1, 0), stop)
        curve = np.stack([false[before[0][part]], accepted[before[1][part]]])
        steps = np.diff(curve) if start else np.diff(curve, prepend=0.0)
        moved = np.flatnonzero(steps.any(0))  # the other pairs were not drawn
        (place,) = nearest_vertices(*curve[:, moved + (start > 0)], total, (far,))
        # The ends of the window look like vertices.
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
    """[function(i) for i in range(count)] in threads; NumPy releases the GIL."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(tracked(threads.map(function, range(count)), count, "resampling", "draws"))


def _totals(weights: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[R] total weight of the impostor pairs in each draw, from their counts by pair of subjects."""
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
