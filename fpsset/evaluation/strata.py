"""How errors depend on a template's quality, its size and its share of video frames."""

import numpy as np

from fpsset.evaluation.resampling import Metrics, SubjectDraws, with_intervals
from fpsset.evaluation.verification import Pairs
from fpsset.face_set import RaggedSets, count_alike

DISCARDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
_CURVE = np.linspace(0, 0.3, 31)
# The fewest faces of each bin, and the least share of video frames.
SIZES = {"1": 1, "2-4": 2, "5-16": 5, "17-64": 17, "65+": 65}
VIDEO_SHARES = {"0": 0.0, "below half": 1e-9, "half or more": 0.5, "all": 1.0}


class Strata:
    """Genuine pairs sorted by what is known about their templates, for one method after another.

    The threshold is a method's own over all pairs and stays as it is, in the draws of the subjects too: what
    changes is which genuine pairs are asked about. Of P pairs only the genuine ones cost anything.
    """

    def __init__(self, sets: RaggedSets, pairs: Pairs, draws: SubjectDraws):
        """Of T sets and the pairs of them."""
        self._genuine = np.flatnonzero(pairs.same)
        self._first, self._second = pairs.first[self._genuine], pairs.second[self._genuine]
        self._owner, self._draws = draws.codes[self._first], draws
        sizes = sets.sizes()
        self._norms = np.add.reduceat(sets.norms[sets.rows], sets.starts[:-1], dtype=np.float64) / sizes
        frames = _video_frames(sets)
        faces = sizes[self._first] + sizes[self._second]
        self._bins = {
            "size": (SIZES, np.minimum(sizes[self._first], sizes[self._second])),
            "video": (VIDEO_SHARES, (frames[self._first] + frames[self._second]) / faces),
        }

    def __call__(
        self, scores: np.ndarray, threshold: float, output_norms: np.ndarray
    ) -> tuple[Metrics, dict]:
        """Figures of one method.

        Args:
          scores: [P] of the pairs.
          threshold: pairs that score above it are accepted.
          output_norms: [T] of the descriptors.

        Returns:
          ({'frr_by_input_norm@discard=0.1', 'frr_by_output_norm@discard=0.1', 'tar@size=2-4',
          'tar@video=all', ...: value, or None where no genuine pair is left; with the number of genuine
          pairs of each, and intervals where there are draws}, {'input_norm' and 'output_norm': the shares
          discarded and the FRRs along them}).
        """
        accepted = scores[self._genuine] > threshold
        metrics: Metrics = {}
        drawn: dict[str, np.ndarray] = {}
        curves = {}

        def rate(figure: str, count: str, where: str, members: np.ndarray, hits: np.ndarray) -> None:
            metrics[f"{figure}@{where}"] = float(hits[members].mean()) if members.any() else None
            metrics[f"{count}@{where}"] = int(members.sum())
            if len(self._draws):
                drawn[f"{figure}@{where}"] = self._drawn_rates(members, hits)

        for kind, norms in (("input_norm", self._norms), ("output_norm", output_norms)):
            places = _places(norms)
            place = np.minimum(places[self._first], places[self._second])
            for share in DISCARDS:
                names = f"frr_by_{kind}", f"genuine_pairs_by_{kind}", f"discard={share:g}"
                rate(*names, place > share, ~accepted)
            left = [place > share for share in _CURVE]
            frr = [(~accepted)[members].mean() if members.any() else np.nan for members in left]
            curves[kind] = _CURVE, np.array(frr)
        for kind, (bins, values) in self._bins.items():
            place = np.searchsorted(list(bins.values()), values, side="right") - 1
            for number, name in enumerate(bins):
                rate("tar", "genuine_pairs", f"{kind}={name}", place == number, accepted)
        return with_intervals(metrics, drawn), curves

    def _drawn_rates(self, members: np.ndarray, hits: np.ndarray) -> np.ndarray:
        """The share of hits among the members in each draw: [R], NaN where a draw has no member."""
        weights = self._draws.weights
        people = weights.shape[1]
        count = weights @ np.bincount(self._owner[members], minlength=people)
        found = weights @ np.bincount(self._owner[members & hits], minlength=people)
        return np.divide(found, count, out=np.full(len(weights), np.nan), where=count > 0)


def _places(norms: np.ndarray) -> np.ndarray:
    """The share of templates whose norm is not above each one's: [T] -> [T] in (0, 1].

    A template goes when its place is within the share to discard: no more than that share ever does, and
    equal ones go together or not at all.
    """
    return np.searchsorted(np.sort(norms), norms, side="right") / len(norms)


def _video_frames(sets: RaggedSets) -> np.ndarray:
    """[T] int64, faces of a template whose medium gives it more than one."""
    count = len(sets.starts) - 1
    if sets.media is None:
        return np.zeros(count, np.int64)
    owner = np.repeat(np.arange(count), sets.sizes())
    several = count_alike(owner, sets.media[sets.rows]) > 1
    return np.bincount(owner[several], minlength=count)
