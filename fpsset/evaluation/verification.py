"""1:1 verification: pairs, TAR at FAR, and the figures of whole curves."""

import math
import os
import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import UNKNOWN_SUBJECT
from fpsset.data.pair_lists import read_pairs, template_places
from fpsset.errors import InputError

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


class Pairs(NamedTuple):
    """P pairs of templates."""

    first: np.ndarray  # [P] int32, positions of templates
    second: np.ndarray  # [P] int32
    same: np.ndarray  # [P] bool, True for a genuine pair


class OperatingPoint(NamedTuple):
    """Verification at one FAR target."""

    far: float  # the target
    tar: float | None  # None: not enough impostors
    achieved_far: float | None  # <= far, by the conservative convention
    threshold: float | None  # pairs that score above it are accepted


def far_name(far: float) -> str:
    """1e-3 for 0.001: how metrics name a FAR."""
    return f"1e-{round(-math.log10(far))}"


def all_pairs(subjects: np.ndarray) -> Pairs:
    """Every pair of two different templates: [T] subjects -> T (T - 1) / 2 pairs."""
    first, second = np.triu_indices(len(subjects), 1)
    return Pairs(first.astype(np.int32), second.astype(np.int32), subjects[first] == subjects[second])


def listed_pairs(path: str | os.PathLike, template_ids: np.ndarray, subjects: np.ndarray) -> Pairs:
    """Pairs of a file, as positions of templates.

    Args:
      path: as `read_pairs` takes it.
      template_ids: [T] sorted ids.
      subjects: [T], `UNKNOWN_SUBJECT` where it is not known.

    Returns:
      Pairs in the file's order.

    Raises:
      InputError: the file is missing or malformed, names an unknown template, or calls a pair
        genuine whose subjects differ (or the other way round).
    """
    path = pathlib.Path(path)
    listed = read_pairs(path)
    first, second = template_places(listed, template_ids, path).T
    same = listed.same
    known = np.minimum(subjects[first], subjects[second]) != UNKNOWN_SUBJECT
    wrong = known & (same != (subjects[first] == subjects[second]))
    if wrong.any():
        raise InputError(f"{path}: pair {int(np.argmax(wrong)) + 1} disagrees with the features' subjects")
    return Pairs(np.ascontiguousarray(first), np.ascontiguousarray(second), same)


def operating_points(scores: np.ndarray, same: np.ndarray, fars=FARS) -> list[OperatingPoint]:
    """TAR at each FAR, conservatively: the largest set accepted whose FAR does not exceed the target.

    Args:
      scores: [P], higher is more alike.
      same: [P] bool.
      fars: targets in (0, 1].

    Returns:
      One point a target; without values where fewer than 1 / far impostors exist.
    """
    impostors = np.sort(scores[~same])[::-1]
    genuine = scores[same]
    points = []
    for far in fars:
        allowed = math.floor(far * len(impostors) + 1e-6)
        if allowed < 1 or not len(genuine):
            points.append(OperatingPoint(far, None, None, None))
            continue
        threshold = impostors[allowed] if allowed < len(impostors) else -np.inf
        # Strictly above: ties with the first impostor refused are refused too.
        accepted = np.searchsorted(-impostors, -threshold, side="left")
        tar = float(np.mean(genuine > threshold))
        points.append(OperatingPoint(far, tar, float(accepted / len(impostors)), float(threshold)))
    return points


def nearest_operating_points(scores: np.ndarray, same: np.ndarray, fars=FARS) -> list[OperatingPoint]:
    """TAR at each FAR as InsightFace's IJB code reads it: at the vertex of the ROC nearest in FAR.

    The FAR achieved may exceed the target, and the ROC is thinned to the vertices at which its
    direction changes (as scikit-learn does unless told otherwise), which moves it further. For
    comparison with published figures; `operating_points` is the honest reading.

    Args:
      scores: [P], higher is more alike.
      same: [P] bool, some of each.
      fars: targets.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of each run of ties
    false, true = (np.cumsum(kind[order])[last] for kind in (~same, same))
    far, tar = (np.append(counts, 0) / counts[-1] for counts in (false, true))  # at -1 nothing is accepted
    # What is accepted at a vertex scores at least as high as the last of its run.
    thresholds = np.nextafter(np.append(scores[order][last], np.inf), -np.inf, dtype=np.float64)
    places = nearest_vertices(false, true, false[-1], fars)
    return [
        OperatingPoint(target, float(tar[place]), float(far[place]), float(thresholds[place]))
        for target, place in zip(fars, places, strict=True)
    ]


def nearest_vertices(false: np.ndarray, true: np.ndarray, total: float, fars) -> np.ndarray:
    """Vertices of a ROC nearest in FAR to targets; of equally near ones the last.

    Args:
      false: [V] impostors accepted at each different score, from the highest on; weighted or not.
      true: [V] genuine pairs accepted there.
      total: of the impostors.
      fars: F targets.

    Returns:
      [F] int64, places in the curve; -1 before its first, where nothing is accepted.
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
    """The smallest of FARS, not below `wanted`, that the number of impostor pairs allows."""
    impostors = int((~pairs.same).sum())
    for far in sorted(FARS):
        if far >= wanted * (1 - 1e-9) and far * impostors + 1e-6 >= 1:
            return far
    raise InputError(f"{impostors} impostor pairs are too few for any FAR, and ten the fewest")


def roc(scores: np.ndarray, same: np.ndarray, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """FAR and TAR along thresholds, conservatively, thinned evenly in log FAR: two arrays [<= points]."""
    impostors = np.append(np.sort(scores[~same])[::-1], -np.inf)
    genuine = np.sort(scores[same])
    accepted = np.unique(np.geomspace(1, len(impostors) - 1, points).astype(np.int64))
    # The threshold is the first impostor refused, and lies below all of those accepted.
    tar = 1 - np.searchsorted(genuine, impostors[accepted], side="right") / len(genuine)
    return accepted / (len(impostors) - 1), tar


def equal_error_rate(scores: np.ndarray, same: np.ndarray) -> float:
    """Where FAR and FRR are nearest along thresholds, their mean: [P] scores, [P] bool -> in [0, 1]."""
    impostors = np.append(np.sort(scores[~same])[::-1], -np.inf)
    genuine = np.sort(scores[same])
    refused = np.searchsorted(genuine, impostors, side="right") / len(genuine)  # at the first one refused
    excess = np.arange(len(impostors)) / (len(impostors) - 1) - refused
    nearest = int(np.argmin(np.abs(excess)))
    return float(refused[nearest] + excess[nearest] / 2)


def area_under_curve(scores: np.ndarray, same: np.ndarray) -> float:
    """Share of pairs of a genuine and an impostor score with the genuine one higher; ties count half."""
    impostors = np.sort(scores[~same])
    lower, as_low = (np.searchsorted(impostors, scores[same], side=side) for side in ("left", "right"))
    return float((lower + as_low).mean() / (2 * len(impostors)))
