"""Exact binomial bounds of a rate that was counted (Clopper and Pearson, Biometrika 26, 1934)."""

import math

import numpy as np

from fpsset.evaluation.resampling import Interval

_STEPS = 80  # of halving


def exact_interval(count: int, trials: int, level: float = 0.95) -> Interval:
    """The Clopper-Pearson interval of a rate: it covers the rate in at least `level` of all experiments.

    The trials must be independent; pairs that share a template are not quite, so for these it is a guide.

    Args:
      count: how often it happened, in 0 ... `trials`.
      trials: how often it could have, at least 1.
      level: of the interval.

    Example:
      >>> low, high = exact_interval(0, 100)
      >>> low, round(high, 4)
      (0.0, 0.0362)
    """
    if not 0 <= count <= trials or trials < 1:
        raise ValueError(f"{count} of {trials} is no count")
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else _solve(lambda rate: 1 - _at_most(count - 1, trials, rate) - tail)
    high = 1.0 if count == trials else _solve(lambda rate: tail - _at_most(count, trials, rate))
    return Interval(low, high)


def _solve(rising) -> float:
    """Where a function that rises with a rate is zero."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def _at_most(count: int, trials: int, rate: float) -> float:
    """P(X <= count) for X binomial."""
    if rate <= 0 or rate >= 1:
        return float(rate <= 0 or count >= trials)
    number = np.arange(count + 1, dtype=np.float64)
    steps = np.log(trials - number[:-1]) - np.log(number[1:])
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    logs += number * math.log(rate) + (trials - number) * math.log1p(-rate)
    most = logs.max()
    return min(1.0, float(np.exp(logs - most).sum() * math.exp(most)) if most > -700 else 0.0)
