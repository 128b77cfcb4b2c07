"""What an evaluation finds, as types; `metric_names` gives the figures their names in files and tables."""

from typing import NamedTuple

import numpy as np

from fpsset.evaluation.resampling import Estimate


class VerificationPoint(NamedTuple):
    """1:1 verification at one FAR target."""

    tar: Estimate  # no value: too few impostor pairs
    threshold: Estimate  # pairs that score above it are accepted
    achieved_far: float | None


class Verification(NamedTuple):
    """1:1 figures of one method."""

    subjects: int
    templates: int
    genuine_pairs: int
    impostor_pairs: int
    convention: str  # a name of `verification.CONVENTIONS`
    eer: Estimate
    auc: Estimate
    points: dict[float, VerificationPoint]  # by FAR target

    def accepted_impostors(self, far: float) -> int:
        """How many impostor pairs are accepted at a FAR target for which there is a TAR."""
        return round(self.points[far].achieved_far * self.impostor_pairs)

    def deciding_impostors(self, far: float) -> int:
        """How many of the highest impostor scores decide the TAR at a FAR target.

        FAR 1e-6 of IJB-C's 15,638,932 impostor pairs is 15.6 pairs. The conservative convention accepts 15,
        since 16 would exceed the target, and the sixteenth sets the threshold. The nearest vertex of the ROC,
        where the ROC has it, accepts 16. So 16 scores decide either way, the number that is usually given.
        """
        return self.accepted_impostors(far) + (self.convention == "conservative")


class MergedPoint(NamedTuple):
    """1:N identification in the merged galleries at one FPIR target."""

    tpir: Estimate
    threshold: Estimate


class Identification(NamedTuple):
    """1:N figures of one method.

    Attributes:
      probes: how many there are.
      mated_probes: those whose subject is in some gallery.
      gallery: templates in all galleries.
      ranks: R -> share of mated probes with a mate among the R best entries of the merged galleries. Ties
        count against the mate.
      tpir: FPIR target -> open-set TPIR, the mean over galleries. In each gallery the threshold is the lowest
        one that the top scores of at most that share of the probes without a mate exceed; a mated probe is a
        hit if its mate ranks first and scores above it. No value: too few probes lack a mate.
      merged: FPIR target F -> the merged galleries, where every probe has a mate. The threshold is the
        ceil(P F)-th highest non-mate score among all pairs of probe and entry, a hit any mate's score above
        it. InsightFace's IJB code reports this; it is not an open-set figure.
    """

    probes: int
    mated_probes: int
    gallery: int
    ranks: dict[int, Estimate]
    tpir: dict[float, Estimate]
    merged: dict[float, MergedPoint]


class Stratum(NamedTuple):
    """An error or accept rate over some of the genuine pairs."""

    rate: Estimate  # no value: no pairs
    genuine_pairs: int


class ErrorsByStratum(NamedTuple):
    """Where the errors of one method lie, at one threshold over all pairs."""

    far: float  # the FAR target that the threshold stands for
    frr_by_input_norm: dict[float, Stratum]  # by the share of templates discarded, lowest norms first
    frr_by_output_norm: dict[float, Stratum]
    tar_by_size: dict[str, Stratum]  # by the faces of a pair's smaller template
    tar_by_video: dict[str, Stratum]  # by the share of video frames among a pair's faces


class Evaluation(NamedTuple):
    """All that an evaluation finds, by method in the order of the tables."""

    verification: dict[str, Verification]
    identification: dict[str, Identification]  # empty without galleries
    strata: dict[str, ErrorsByStratum]  # empty where no FAR can be answered
    paired: dict[str, dict[str, Estimate]]  # 'fpsset - OTHER' -> name -> difference; empty without draws
    curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]  # 'roc', maybe 'cmc', 'dir' -> method -> x, y
    fingerprints: dict[str, str]  # of the model, the backbone, the faces, the protocol and the draws
    resamples: int  # draws of the subjects; 0 for none
    seed: int  # of the draws
