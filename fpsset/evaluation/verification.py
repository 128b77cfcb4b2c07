"""1:1 verification: pairs, TAR at FAR, equal error rate and area under the ROC."""

import itertools
import math
import os
import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import UNKNOWN_SUBJECT
from fpsset.data.pair_lists import read_pairs, template_places
from fpsset.errors import InputError
from fpsset.evaluation.resampling import NO_DRAWS, estimate
from fpsset.evaluation.results import Verification, VerificationPoint
from fpsset.runtime.memory import memory_limit
from fpsset.runtime.progress import StepProgress

# Of an evaluation at its peak: the pairs, their scores, and the sorted copies that figures and draws need.
_BYTES_PER_PAIR = 120
FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


class Pairs(NamedTuple):
    """P pairs of templates."""

    first: np.ndarray  # [P] int32, positions of templates
    second: np.ndarray  # [P] int32
    same: np.ndarray  # [P] bool, True for a genuine pair


class OperatingPoint(NamedTuple):
    """Verification at one FAR target."""

    far: float  # the target
    tar: float | None  # None: too few impostor pairs
    achieved_far: float | None  # <= far by the conservative convention
    threshold: float | None  # pairs that score above it are accepted


class DrawnVerification(NamedTuple):
    """Figures of 1:1 verification in R draws of the subjects, as `VerificationDraws` gives them."""

    tar: dict[float, np.ndarray]  # FAR target -> [R] float64
    threshold: dict[float, np.ndarray]
    eer: np.ndarray  # [R] float64
    auc: np.ndarray


NOT_DRAWN = DrawnVerification({}, {}, NO_DRAWS, NO_DRAWS)


def verification_metrics(
    scores: np.ndarray,
    pairs: Pairs,
    subjects: np.ndarray,
    convention: str = "conservative",
    drawn: DrawnVerification = NOT_DRAWN,
) -> Verification:
    """All 1:1 figures of one method: counts, EER, area under the ROC, and TAR at each of `FARS`.

    Args:
      scores: [P] of the pairs.
      pairs: P pairs.
      subjects: [T].
      convention: a name of `CONVENTIONS`.
      drawn: the same figures in draws of the subjects, for intervals.
    """
    return Verification(
        subjects=len(np.unique(subjects)),
        templates=len(subjects),
        genuine_pairs=int(pairs.same.sum()),
        impostor_pairs=int((~pairs.same).sum()),
        convention=convention,
        eer=estimate(equal_error_rate(scores, pairs.same), drawn.eer),
        auc=estimate(area_under_curve(scores, pairs.same), drawn.auc),
        points={
            point.far: VerificationPoint(
                estimate(point.tar, drawn.tar.get(point.far, NO_DRAWS)),
                estimate(point.threshold, drawn.threshold.get(point.far, NO_DRAWS)),
                point.achieved_far,
            )
            for point in CONVENTIONS[convention](scores, pairs.same)
        },
    )


def all_pairs(subjects: np.ndarray) -> Pairs:
    """All pairs of distinct templates: [T] subjects -> T (T - 1) / 2 pairs.

    Raises:
      InputError: the evaluation of so many pairs would not fit in memory.
    """
    count = len(subjects)
    require_memory(count * (count - 1) // 2, f"all pairs of {count:,} templates")
    ends = np.cumsum(np.arange(count - 1, -1, -1))
    first = np.repeat(np.arange(count, dtype=np.int32), np.arange(count - 1, -1, -1))
    second, same = np.empty_like(first), np.empty(len(first), bool)
    for row, (start, stop) in enumerate(itertools.pairwise([0, *ends.tolist()])):  # temporaries of a row only
        second[start:stop] = np.arange(row + 1, count, dtype=np.int32)
        same[start:stop] = subjects[row + 1 :] == subjects[row]
    return Pairs(first, second, same)


def require_memory(pairs: int, what: str) -> None:
    """Raises InputError if pairs would not fit in the memory that this process may use.

    Args:
      pairs: how many.
      what: they are, for the message.
    """
    needed, limit = pairs * _BYTES_PER_PAIR, memory_limit()
    if limit is not None and needed > limit:
        raise InputError(
            f"{what}: {pairs:,} pairs need about {needed / 2**30:.1f} GiB of memory, of which there are "
            f"{limit / 2**30:.1f}; list the pairs to score in a file (config.data.pairs or --pairs)"
        )


def listed_pairs(path: str | os.PathLike, template_ids: np.ndarray, subjects: np.ndarray) -> Pairs:
    """Reads a pairs file; templates become positions among `template_ids`.

    Args:
      path: a file that `read_pairs` reads.
      template_ids: [T] sorted ids.
      subjects: [T], `UNKNOWN_SUBJECT` where not known.

    Returns:
      Pairs in the file's order. Those of a template with itself, and repeated ones in either order, are left
      out, which stderr says.

    Raises:
      InputError: the file is missing or malformed, names an unknown template, labels a pair against the
        templates' subjects or in two ways, or lists no other pairs.
    """
    path = pathlib.Path(path)
    listed = read_pairs(path)
    first, second = template_places(listed, template_ids, path).T
    same = listed.same
    known = np.minimum(subjects[first], subjects[second]) != UNKNOWN_SUBJECT
    wrong = known & (same != (subjects[first] == subjects[second]))
    if wrong.any():
        raise InputError(f"{path}: pair {int(np.argmax(wrong)) + 1} disagrees with the features' subjects")
    kept = _distinct(first, second, same, path)
    if kept is not None:
        first, second, same = first[kept], second[kept], same[kept]
    return Pairs(np.ascontiguousarray(first), np.ascontiguousarray(second), same)


def _distinct(
    first: np.ndarray, second: np.ndarray, same: np.ndarray, path: pathlib.Path
) -> np.ndarray | None:
    """The positions of pairs of two templates, each at its first mention; None if that is all of them."""
    key = np.minimum(first, second).astype(np.int64) << 32 | np.maximum(first, second)
    itself = first == second
    ordered = np.sort(key)
    if not itself.any() and (ordered[1:] != ordered[:-1]).all():
        return None
    _, mentions, inverse = np.unique(key, return_index=True, return_inverse=True)
    unlike = same != same[mentions][inverse]
    if unlike.any():
        row = int(np.argmax(unlike))
        raise InputError(
            f"{path}: pair {row + 1} is genuine and impostor at once: pair {mentions[inverse[row]] + 1} "
            "is of the same templates; leave one out"
        )
    kept = np.sort(mentions[~itself[mentions]])
    if not len(kept):
        raise InputError(f"{path}: has only pairs of a template with itself; list pairs of two templates")
    repeated = len(key) - int(itself.sum()) - len(kept)
    StepProgress.say(
        f"{path}: left out {int(itself.sum())} pairs of a template with itself and {repeated} repeated pairs"
    )
    return kept


def operating_points(scores: np.ndarray, same: np.ndarray, fars=FARS) -> list[OperatingPoint]:
    """TAR at each FAR, conservatively: the lowest threshold at which FAR does not exceed the target.

    Args:
      scores: [P], higher means more alike.
      same: [P] bool, True for a genuine pair.
      fars: targets in (0, 1].

    Returns:
      One point per target, without values where there are fewer than 1 / far impostor pairs.
    """
    impostors, genuine = scores[~same], scores[same]
    count = len(impostors)
    allowed = [math.floor(far * count + 1e-6) for far in fars]
    low = max(count - max(allowed, default=0) - 1, 0)  # how many are below any threshold
    highest = np.sort(np.partition(impostors, low)[low:] if low else impostors)[::-1]
    points = []
    for far, most in zip(fars, allowed, strict=True):
        if most < 1 or not len(genuine):
            points.append(OperatingPoint(far, None, None, None))
            continue
        threshold = highest[most] if most < count else -np.inf
        # Strictly above the threshold: ties with the first rejected impostor are rejected too.
        accepted = np.searchsorted(-highest, -threshold, side="left")
        tar = float(np.mean(genuine > threshold))
        points.append(OperatingPoint(far, tar, float(accepted / count), float(threshold)))
    return points


def nearest_operating_points(scores: np.ndarray, same: np.ndarray, fars=FARS) -> list[OperatingPoint]:
    """TAR at each FAR as InsightFace's IJB code reads it: at the ROC vertex nearest in FAR.

    The achieved FAR may exceed the target, the more so as the ROC keeps only the vertices where its direction
    changes (scikit-learn's default). Use it to compare with published figures, `operating_points` otherwise.

    Args:
      scores: [P], higher means more alike.
      same: [P] bool, with both genuine and impostor pairs.
      fars: targets.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of each group of ties
    false, true = (np.cumsum(kind[order])[last] for kind in (~same, same))
    far, tar = (np.append(counts, 0) / counts[-1] for counts in (false, true))  # at -1 nothing is accepted
    # A vertex accepts every score down to its own, so the threshold is the next float below.
    thresholds = np.nextafter(np.append(scores[order][last], np.inf), -np.inf, dtype=np.float64)
    places = nearest_vertices(false, true, false[-1], fars)
    return [
        OperatingPoint(target, float(tar[place]), float(far[place]), float(thresholds[place]))
        for target, place in zip(fars, places, strict=True)
    ]


def nearest_vertices(false: np.ndarray, true: np.ndarray, total: float, fars) -> np.ndarray:
    """ROC vertices nearest in FAR to the targets; the last of equally near ones.

    Args:
      false: [V] count or weight of the impostor pairs accepted at each distinct score, highest score first.
      true: [V] the same for genuine pairs.
      total: of all impostor pairs.
      fars: F targets.

    Returns:
      [F] int64, positions in the curve; -1 for the origin, where nothing is accepted.
    """
    turns = (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0)
    vertices = np.append(-1, np.flatnonzero(np.concatenate([[True], turns, [True]])[: len(false)]))
    far = np.append(0, false[vertices[1:]]) / total
    after = np.minimum(np.searchsorted(far, fars), len(far) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(far[after] - fars) <= np.abs(far[before] - fars), after, before)
    return vertices[np.searchsorted(far, far[nearest], side="right") - 1]


CONVENTIONS = {"conservative": operating_points, "nearest": nearest_operating_points}


def reachable_far(pairs: Pairs, wanted: float) -> float:
    """The smallest of `FARS` not below `wanted` for which there are enough impostor pairs.

    Raises:
      InputError: too few pairs for any.
    """
    impostors = int((~pairs.same).sum())
    for far in sorted(FARS):
        if far >= wanted * (1 - 1e-9) and far * impostors + 1e-6 >= 1:
            return far
    raise InputError(f"{impostors} impostor pairs are too few for any FAR; at least 10 are needed")


def roc(scores: np.ndarray, same: np.ndarray, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """FAR and TAR over thresholds, conservatively, evenly spaced in log FAR: two arrays [<= points]."""
    impostors = np.append(np.sort(scores[~same])[::-1], -np.inf)
    genuine = np.sort(scores[same])
    accepted = np.unique(np.geomspace(1, len(impostors) - 1, points).astype(np.int64))
    # The threshold is the score of the first rejected impostor.
    tar = 1 - np.searchsorted(genuine, impostors[accepted], side="right") / len(genuine)
    return accepted / (len(impostors) - 1), tar


def equal_error_rate(scores: np.ndarray, same: np.ndarray) -> float:
    """Mean of FAR and FRR at the threshold where they are closest: [P] scores, [P] bool -> in [0, 1]."""
    impostors = np.append(np.sort(scores[~same])[::-1], -np.inf)
    genuine = np.sort(scores[same])
    frr = np.searchsorted(genuine, impostors, side="right") / len(genuine)  # where each is the first rejected
    excess = np.arange(len(impostors)) / (len(impostors) - 1) - frr
    nearest = int(np.argmin(np.abs(excess)))
    return float(frr[nearest] + excess[nearest] / 2)


def area_under_curve(scores: np.ndarray, same: np.ndarray) -> float:
    """Probability that a genuine score exceeds an impostor's, ties counting half (the area under the ROC)."""
    impostors = np.sort(scores[~same])
    lower, as_low = (np.searchsorted(impostors, scores[same], side=side) for side in ("left", "right"))
    return float((lower + as_low).mean() / (2 * len(impostors)))
