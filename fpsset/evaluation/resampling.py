"""Estimates with 95% confidence intervals, by resampling subjects."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import UNKNOWN_SUBJECT

# With fewer subjects the draws mostly reflect how few there are.
FEWEST_SUBJECTS = 10
NO_DRAWS = np.empty(0)


class SubjectDraws:
    """Draws of the subjects with replacement, shared by all figures of all methods.

    Templates of one subject are not independent, so subjects are what is drawn: a genuine pair counts as
    often as its subject, an impostor pair as the product of its two subjects' counts, a probe as often as
    its subject. Thresholds are set anew in each draw.

    Attributes:
      weights: [R, S] float32, how often each subject is in a draw. R is 0 with fewer than `FEWEST_SUBJECTS`
        subjects, or if any is unknown.
      codes: [T] int32, the subject of each template, counted from 0.
      seed: of the draws.
    """

    def __init__(self, subjects: np.ndarray, resamples: int, seed: int = 0):
        """Draws `resamples` times from the distinct `subjects` [T] of the templates."""
        people, codes = np.unique(subjects, return_inverse=True)
        self.codes, self.seed = codes.astype(np.int32), seed
        count = len(people)
        rows = resamples if count >= FEWEST_SUBJECTS and UNKNOWN_SUBJECT not in people else 0
        draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), rows)
        self.weights = draws.astype(np.float32).reshape(rows, count)

    def __len__(self) -> int:
        return len(self.weights)


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
      value: None where the data do not determine it, for example with too few impostor pairs.
      interval: 95%; None where there is no value or no draw.
      draws: [R] float64, the figure in each draw, NaN where a draw does not determine it; empty if it was not
        resampled.
    """

    value: float | None
    interval: Interval | None = None
    draws: np.ndarray = dataclasses.field(default_factory=lambda: NO_DRAWS, repr=False, compare=False)

    def __str__(self) -> str:
        """The value and its interval: 0.9540 (0.9023 to 0.9886)."""
        ends = self.interval
        value = "-" if self.value is None else f"{self.value:.4f}"
        return f"{value} ({ends.low:.4f} to {ends.high:.4f})" if ends else value

    def __sub__(self, other: Estimate) -> Estimate:
        """The paired difference: both figures must have values, from the same draws."""
        return estimate(self.value - other.value, self.draws - other.draws)


def estimate(value: float | None, draws: np.ndarray = NO_DRAWS) -> Estimate:
    """A figure and its percentile interval; a NaN counts as no value.

    Args:
      value: on all subjects.
      draws: [R] float64.
    """
    if value is None or np.isnan(value):
        return Estimate(None, None, draws)
    return Estimate(float(value), interval(draws) if np.isfinite(draws).any() else None, draws)


def interval(draws: np.ndarray, level: float = 0.95) -> Interval:
    """The percentile interval of the draws [R] of a figure, leaving NaN out."""
    tail = 50 * (1 - level)
    return Interval(*np.nanpercentile(draws, [tail, 100 - tail]).tolist())
