"""Decisions about people: thresholds found on labelled probes against this gallery, and what they tell.

At a claimed false accept rate there are two thresholds. Above the higher one the answer is 'same person': at
most that share of comparisons with others score so high. Below the lower one it is 'different': at most one
genuine comparison in a hundred scores so low. In between the data cannot tell at that rate.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from fpsset.errors import InputError
from fpsset.evaluation.binomial import exact_interval
from fpsset.people.trials import Probes, Trials

SAME, DIFFERENT, CANNOT_TELL = "same person", "different", "cannot tell at this"
FAR, FPIR = "FAR", "FPIR"
BY = ("quality", "size")
MISSES = 0.01  # share of genuine comparisons that may count as different
_SIZE_EDGES = (2, 5, 17)
_OFF = 2.0  # a stratum whose rate is off by more than this factor gets its own threshold


class Threshold(NamedTuple):
    """Two thresholds for one claimed rate, and what they were found on.

    Attributes:
      rate: the claimed FAR or FPIR.
      same: scores above it are 'same person'.
      different: scores below it are 'different'; None without genuine comparisons.
      accepted: impostor comparisons (or non-mated probes) above `same`.
      impostors: of how many.
      hits: genuine comparisons above `same`; for 1:N, that are the best too.
      genuine: of how many.
    """

    rate: float
    same: float
    different: float | None
    accepted: int
    impostors: int
    hits: int
    genuine: int

    def answer(self, score: float, kind: str = FAR) -> str:
        """What a score says; `kind` is the kind of rate."""
        if score > self.same:
            return SAME
        return DIFFERENT if self.different is not None and score < self.different else f"{CANNOT_TELL} {kind}"

    def line(self) -> str:
        """The threshold with its achieved rate and the exact 95% bounds."""
        low, high = exact_interval(self.accepted, self.impostors)
        found = f"{self.accepted} of {self.impostors} accepted, {self.accepted / self.impostors:.3g} "
        found += f"({low:.2g} to {high:.2g})"
        if self.genuine:
            low, high = exact_interval(self.hits, self.genuine)
            found += f"; {self.hits} of {self.genuine} found, {self.hits / self.genuine:.4f} "
            found += f"({low:.4f} to {high:.4f})"
        return f"{self.same:.4f}: {found}"


class Decider(NamedTuple):
    """Thresholds for one claimed rate: one for all, or one for each stratum of the probe.

    Attributes:
      everyone: the threshold over all probes.
      by: 'quality', 'size', or '' for one threshold.
      edges: of the strata: values of a stratum are at or above its edge; the first has none.
      strata: a threshold for each stratum, len(edges) + 1; None where `everyone` holds, too.
      people: in the gallery when it was calibrated.
    """

    everyone: Threshold
    by: str
    edges: list[float]
    strata: list[Threshold | None]
    people: int

    def threshold(self, size: int, quality: float) -> Threshold:
        """The threshold for a probe of so many faces and that mean norm."""
        if not self.by:
            return self.everyone
        value = size if self.by == "size" else quality
        return self.strata[int(np.searchsorted(self.edges, value, side="right"))] or self.everyone

    def to_json(self) -> dict:
        """As `from_json` reads it."""
        strata = [one and one._asdict() for one in self.strata]
        return {**self._asdict(), "everyone": self.everyone._asdict(), "strata": strata}

    @classmethod
    def from_json(cls, held: dict) -> "Decider":
        """What `to_json` gave."""
        strata = [one and Threshold(**one) for one in held["strata"]]
        return cls(**{**held, "everyone": Threshold(**held["everyone"]), "strata": strata})


class Stratum(NamedTuple):
    """A part of the probes at the one threshold."""

    label: str
    accepted: int
    impostors: int
    hits: int
    genuine: int


def strata_of(probes: Probes, by: str) -> tuple[list[float], np.ndarray]:
    """(Edges of strata, [Q] int the stratum of each probe): sizes 1, 2-4, 5-16, 17+; thirds by quality."""
    values = probes.sizes if by == "size" else probes.quality
    edges = list(_SIZE_EDGES) if by == "size" else np.quantile(probes.quality, [1 / 3, 2 / 3]).tolist()
    return edges, np.searchsorted(edges, values, side="right")


def labels_of(edges: list[float], by: str) -> list[str]:
    """Names of strata."""
    if by == "size":
        pairs = itertools.pairwise([1, *edges])
        ends = [f"{low}" if high == low + 1 else f"{low} to {high - 1}" for low, high in pairs]
        return [f"{end} faces" for end in [*ends, f"{edges[-1]} or more"]]
    low, high = (f"{edge:.2f}" for edge in edges)
    return [f"norm below {low}", f"norm {low} to {high}", f"norm from {high}"]


def decide(trials: Trials, rate: float, people: int, by: str = "", edges=(), groups=None) -> Decider:
    """Thresholds for 1:1 verification at a claimed FAR.

    With `by`, a stratum has its own threshold where its false accept rate at the one threshold is off by more
    than a factor of two.

    Args:
      trials: with the groups `groups`, at this rate.
      rate: claimed FAR.
      people: in the gallery.
      by: 'quality', 'size' or ''.
      edges: from `strata_of`.
      groups: [Q] int, from `strata_of`.

    Raises:
      InputError: there are fewer than 1 / rate impostor comparisons.
    """
    everybody = np.ones(len(trials.mate), bool)
    everyone = _verification(trials, everybody, trials.best, rate)
    strata: list[Threshold | None] = []
    for group in range(len(edges) + 1) if by else ():
        members = groups == group
        found = _at(trials, members, everyone.same)
        off = found.impostors and not rate / _OFF <= found.accepted / found.impostors <= rate * _OFF
        enough = rate * found.impostors + 1e-6 >= 1
        scores = trials.by_group.get(group)
        strata.append(_verification(trials, members, scores, rate) if off and enough else None)
    return Decider(everyone, by, list(edges), strata, people)


def decide_search(trials: Trials, rate: float, people: int) -> Decider:
    """Thresholds for open-set search at a claimed FPIR.

    Every probe is searched once without its own person, as one that nobody enrolled.

    Raises:
      InputError: there are fewer than 1 / rate probes.
    """
    scores = np.sort(trials.top)[::-1]
    allowed = _allowed(len(scores), rate, "--fpir", "probes")
    same = float(scores[allowed])
    mated = trials.mate > -np.inf
    hits = mated & (trials.mate > trials.top) & (trials.mate > same)
    return Decider(
        Threshold(
            *(rate, same, _lowest(np.sort(trials.mate[mated])), int((scores > same).sum()), len(scores)),
            *(int(hits.sum()), int(mated.sum())),
        ),
        *("", [], [], people),
    )


def stratum_rows(trials: Trials, threshold: float, labels: list[str], groups: np.ndarray) -> list[Stratum]:
    """What happens in each stratum at one threshold."""
    return [_at(trials, groups == group, threshold, label) for group, label in enumerate(labels)]


def open_set_curve(trials: Trials) -> tuple[np.ndarray, np.ndarray]:
    """TPIR (DIR at rank 1) against FPIR: ([T], [T]), from the lowest FPIR on."""
    thresholds = np.unique(trials.top[trials.top > -np.inf])[::-1]
    others = np.sort(trials.top)
    mated = trials.mate > -np.inf
    hits = np.sort(trials.mate[mated & (trials.mate > trials.top)])
    fpir = (len(others) - np.searchsorted(others, thresholds, side="right")) / len(others)
    tpir = (len(hits) - np.searchsorted(hits, thresholds, side="right")) / max(int(mated.sum()), 1)
    return fpir, tpir


def _verification(trials: Trials, members: np.ndarray, scores: np.ndarray, rate: float) -> Threshold:
    impostors = int(trials.others[members].sum())
    allowed = _allowed(impostors, rate, "--far", "comparisons with others")
    same = float(scores[allowed]) if allowed < len(scores) else -1.0
    genuine = np.sort(trials.mate[members & (trials.mate > -np.inf)])
    accepted, hits = int((scores > same).sum()), int((genuine > same).sum())
    return Threshold(rate, same, _lowest(genuine), accepted, impostors, hits, len(genuine))


def _at(trials: Trials, members: np.ndarray, threshold: float, label: str = "") -> Stratum:
    accepted = int((members[trials.owners] & (trials.best > threshold)).sum())
    mated = members & (trials.mate > -np.inf)
    hits = int((trials.mate[mated] > threshold).sum())
    return Stratum(label, accepted, int(trials.others[members].sum()), hits, int(mated.sum()))


def _allowed(impostors: int, rate: float, option: str, what: str) -> int:
    allowed = math.floor(rate * impostors + 1e-6)
    if allowed < 1:
        raise InputError(
            f"{impostors} {what} are too few for {option} {rate:g}, which needs {math.ceil(1 / rate)}; "
            f"give more labelled faces, or raise {option}"
        )
    return allowed


def _lowest(genuine: np.ndarray) -> float | None:
    """The score below which at most one in a hundred genuine comparisons lie; None without any."""
    return float(genuine[math.floor(MISSES * len(genuine))]) if len(genuine) else None
