"""Confidence intervals by resampling subjects."""

import numpy as np

from fpsset.evaluation.verification import FARS, Pairs

# With fewer subjects a resample says little but how few they are.
FEWEST_SUBJECTS = 10


class SubjectResampler:
    """Draws of the subjects, shared by all methods scored on the same pairs.

    Pairs of one subject are not independent, so the subject is what is drawn, with replacement: a
    genuine pair counts as often as its subject, an impostor pair as the product of its two
    subjects' counts. Both rates are counted anew in each draw, the threshold included.
    """

    def __init__(self, pairs: Pairs, subjects: np.ndarray, resamples: int, seed: int = 0):
        """Prepares `resamples` draws for `pairs` of templates of `subjects` [T]."""
        people, self._codes = np.unique(subjects, return_inverse=True)
        self._pairs = pairs
        count = len(people)
        self._weights = np.zeros((0, count))
        if count >= FEWEST_SUBJECTS:
            rng = np.random.default_rng(seed)
            self._weights = rng.multinomial(count, np.full(count, 1 / count), resamples).astype(np.float64)
        if not len(self._weights):
            return
        # How many impostor pairs any two people have: the total of a draw needs no more.
        key = self._codes[pairs.first].astype(np.int64) * count + self._codes[pairs.second]
        unique, pairs_of = np.unique(key[~pairs.same], return_counts=True)
        self._totals = [float(w[unique // count] * w[unique % count] @ pairs_of) for w in self._weights]

    def tar_intervals(self, scores: np.ndarray, fars=FARS) -> dict[float, tuple[float, float]]:
        """95% intervals of TAR at FAR.

        Args:
          scores: [P] of the pairs.
          fars: targets.

        Returns:
          {far: (low, high)} for the targets with at least one impostor allowed; nothing for fewer
          than FEWEST_SUBJECTS subjects.
        """
        if not len(self._weights):
            return {}
        order = np.argsort(-scores, kind="stable")
        same = self._pairs.same[order]
        genuine, impostors = order[same], order[~same]
        owner = self._codes[self._pairs.first[genuine]]
        first = self._codes[self._pairs.first[impostors]]
        second = self._codes[self._pairs.second[impostors]]
        # How many of the sorted genuine scores lie above each impostor's, and above none's.
        above = np.searchsorted(-scores[genuine], -scores[impostors], side="left")
        above = np.append(above, len(genuine))
        tars = {far: [] for far in fars if far * len(impostors) + 1e-6 >= 1}
        for weight, total in zip(self._weights, self._totals, strict=True):
            accepted = np.concatenate([[0.0], np.cumsum(weight[owner])])
            if not accepted[-1] or not total:
                continue  # a draw without a genuine or an impostor pair
            false = np.cumsum(weight[first] * weight[second])
            for far, values in tars.items():
                place = np.searchsorted(false, far * total + 1e-6, side="right")
                values.append(accepted[above[place]] / accepted[-1])
        return {
            far: tuple(np.percentile(values, [2.5, 97.5]).tolist()) for far, values in tars.items() if values
        }
