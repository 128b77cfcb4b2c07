"""How errors depend on the norm, the size and the share of video frames of templates."""

import numpy as np

from fpsset.evaluation.resampling import NO_DRAWS, SubjectDraws, estimate
from fpsset.evaluation.results import ErrorsByStratum, Stratum
from fpsset.evaluation.verification import Pairs
from fpsset.face_set import RaggedSets, count_alike

DISCARDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
_CURVE = np.linspace(0, 0.3, 31)
# Lower edges of the bins: number of faces, share of video frames.
SIZES = {"1": 1, "2-4": 2, "5-16": 5, "17-64": 17, "65+": 65}
VIDEO_SHARES = {"0": 0.0, "below half": 1e-9, "half or more": 0.5, "all": 1.0}


class Strata:
    """Error rates over parts of the genuine pairs, for methods that are scored on the same pairs.

    The pairs are split by what is known of their templates: the norm, the number of faces, the share of video
    frames. The threshold stays the method's own over all pairs, in the draws of the subjects too; only the
    genuine pairs that are counted change.
    """

    def __init__(self, sets: RaggedSets, pairs: Pairs, draws: SubjectDraws):
        """Prepares T sets, pairs of them, and draws of their subjects."""
        self._genuine = np.flatnonzero(pairs.same)
        self._first, self._second = pairs.first[self._genuine], pairs.second[self._genuine]
        self._owner, self._draws = draws.codes[self._first], draws
        sizes = sets.sizes()
        self._norms = np.add.reduceat(sets.norms[sets.rows], sets.starts[:-1], dtype=np.float64) / sizes
        frames = _video_frames(sets)
        faces = sizes[self._first] + sizes[self._second]
        self._smaller = np.minimum(sizes[self._first], sizes[self._second])
        self._video = (frames[self._first] + frames[self._second]) / faces

    def __call__(
        self, scores: np.ndarray, far: float, threshold: float, output_norms: np.ndarray
    ) -> tuple[ErrorsByStratum, dict[str, tuple[np.ndarray, np.ndarray]]]:
        """Error rates of one method, and curves of FRR against the share discarded.

        Args:
          scores: [P] of the pairs.
          far: the FAR target of the threshold.
          threshold: pairs that score above it are accepted.
          output_norms: [T] of the descriptors.

        Returns:
          (the rates, {'input_norm' and 'output_norm': (shares of templates discarded, FRRs)}).
        """
        accepted = scores[self._genuine] > threshold
        by_norm, curves = {}, {}
        for kind, norms in (("input_norm", self._norms), ("output_norm", output_norms)):
            ranks = _rank_fractions(norms)
            lower = np.minimum(ranks[self._first], ranks[self._second])
            by_norm[kind] = {share: self._stratum(lower > share, ~accepted) for share in DISCARDS}
            kept = [lower > share for share in _CURVE]
            frr = [(~accepted)[members].mean() if members.any() else np.nan for members in kept]
            curves[kind] = _CURVE, np.array(frr)
        rates = ErrorsByStratum(
            far,
            by_norm["input_norm"],
            by_norm["output_norm"],
            self._binned(SIZES, self._smaller, accepted),
            self._binned(VIDEO_SHARES, self._video, accepted),
        )
        return rates, curves

    def _binned(self, bins: dict[str, float], values: np.ndarray, accepted: np.ndarray) -> dict[str, Stratum]:
        """TAR by bin of a value per genuine pair."""
        numbers = np.searchsorted(list(bins.values()), values, side="right") - 1
        return {name: self._stratum(numbers == number, accepted) for number, name in enumerate(bins)}

    def _stratum(self, members: np.ndarray, hits: np.ndarray) -> Stratum:
        """The share of hits among the members, both masks of the genuine pairs."""
        draws = NO_DRAWS
        if len(self._draws):
            weights = self._draws.weights
            people = weights.shape[1]
            count = weights @ np.bincount(self._owner[members], minlength=people)
            found = weights @ np.bincount(self._owner[members & hits], minlength=people)
            draws = np.divide(found, count, out=np.full(len(weights), np.nan), where=count > 0)
        rate = float(hits[members].mean()) if members.any() else None
        return Stratum(estimate(rate, draws), int(members.sum()))


def _rank_fractions(norms: np.ndarray) -> np.ndarray:
    """The share of templates whose norm is at most each one's: [T] -> [T] in (0, 1].

    Discarding a share drops the templates whose rank fraction is at most the share, so never more than that
    share; ties go together.
    """
    return np.searchsorted(np.sort(norms), norms, side="right") / len(norms)


def _video_frames(sets: RaggedSets) -> np.ndarray:
    """[T] int64, faces per template whose medium contributes several."""
    count = len(sets.starts) - 1
    if sets.media is None:
        return np.zeros(count, np.int64)
    owner = np.repeat(np.arange(count), sets.sizes())
    several = count_alike(owner, sets.media[sets.rows]) > 1
    return np.bincount(owner[several], minlength=count)
