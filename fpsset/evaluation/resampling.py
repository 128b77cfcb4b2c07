"""Confidence intervals by resampling subjects, and of the difference of two methods."""

import numpy as np

Metrics = dict[str, float | int | str | None]

# With fewer subjects a resample says little but how few they are.
FEWEST_SUBJECTS = 10


class SubjectDraws:
    """Draws of the subjects with replacement, the same for every figure of every method.

    Templates of one subject are not independent, so the subject is what is drawn: a genuine pair counts as
    often as its subject, an impostor pair as the product of its two subjects' counts, a probe as often as
    its subject. Thresholds are set anew in each draw.

    Attributes:
      weights: [R, S] float32, how often each subject is in a draw; no row for too few subjects.
      codes: [T] int32, the subject of each template, counted from 0.
      seed: of the draws.
    """

    def __init__(self, subjects: np.ndarray, resamples: int, seed: int = 0):
        """Draws `resamples` times from the different `subjects` [T] of the templates."""
        people, codes = np.unique(subjects, return_inverse=True)
        self.codes, self.seed = codes.astype(np.int32), seed
        count = len(people)
        rows = resamples if count >= FEWEST_SUBJECTS else 0
        draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), rows)
        self.weights = draws.astype(np.float32).reshape(rows, count)

    def __len__(self) -> int:
        return len(self.weights)

    def facts(self) -> dict[str, int]:
        """How many draws, and of which seed; nothing where there are none."""
        return {"resamples": len(self), "resampling_seed": self.seed} if len(self) else {}


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of the draws [R] of a figure; draws without a value are NaN and left out."""
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)


def limit_name(name: str, end: str) -> str:
    """The name of an interval's end, 'low' or 'high': tar_low@far=1e-3 of tar@far=1e-3."""
    figure, at, where = name.partition("@")
    return f"{figure}_{end}{at}{where}"


def with_intervals(metrics: dict, draws: dict[str, np.ndarray]) -> dict:
    """Metrics, with the ends of an interval for each figure that was drawn."""
    found = dict(metrics)
    for name, values in draws.items():
        if metrics.get(name) is not None and np.isfinite(values).any():
            found |= dict(
                zip((limit_name(name, end) for end in ("low", "high")), interval(values), strict=True)
            )
    return found
