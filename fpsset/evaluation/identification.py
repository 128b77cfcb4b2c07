"""1:N identification: a probe's template against galleries, closed and open set."""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fpsset.errors import InputError
from fpsset.evaluation.scoring import row_blocks
from fpsset.ops.metric import cosines

RANKS = (1, 5, 10)
FPIRS = (1e-2, 1e-1)


class Templates(NamedTuple):
    """Positions of templates, and their subjects."""

    positions: np.ndarray  # [G] int64
    subjects: np.ndarray  # [G] int64


class Search(NamedTuple):
    """A 1:N protocol over T templates."""

    galleries: dict[str, Templates]
    probes: Templates


def search_protocol(galleries: dict[str, np.ndarray], probes: np.ndarray, template_ids: np.ndarray) -> Search:
    """Finds the templates of a protocol's lists.

    Args:
      galleries: name -> [G, 2] (template, subject).
      probes: [P, 2].
      template_ids: [T] sorted ids of the templates there are.

    Raises:
      InputError: a list names a template that has no faces.
    """

    def find(name: str, rows: np.ndarray) -> Templates:
        places = np.minimum(np.searchsorted(template_ids, rows[:, 0]), len(template_ids) - 1)
        unknown = template_ids[places] != rows[:, 0]
        if unknown.any():
            raise InputError(f"{name}: template {rows[np.argmax(unknown), 0]} has no faces in the features")
        return Templates(places, rows[:, 1])

    found = {name: find(f"gallery {name}", rows) for name, rows in galleries.items()}
    return Search(found, find("probes", probes))


class Outcomes(NamedTuple):
    """P probes against G galleries, each apart and all of them merged."""

    mate: np.ndarray  # [P, G] best score of an entry of the same subject, -inf without
    top: np.ndarray  # [P, G] best score of an entry of another subject
    rank: np.ndarray  # [P] of the best mate among the merged galleries' entries, from 1; ties against it
    best_others: np.ndarray  # [B] highest scores of a probe and an entry that is no mate, falling
    best_owners: np.ndarray  # [B] the probe of each
    entries: int  # of the merged galleries

    def mated(self) -> np.ndarray:
        """[P, G] bool, the gallery holds the probe's subject."""
        return self.mate > -np.inf


class _Comparison(NamedTuple):
    """Probes against all galleries' entries, on one device."""

    bounds: tuple[int, ...]  # where each gallery's entries start, and the last one's end
    listed: int  # how many of the highest scores without a mate to give

    def __call__(self, probes, subjects, numbers, entries, entry_subjects):
        """Fields of `Outcomes` for [p, D] probes of [p] subjects; their [p] numbers are 0 in padding."""
        scores = cosines(probes, entries)
        same = subjects[:, None] == entry_subjects[None]
        mates = jnp.where(same, scores, -jnp.inf)
        others = jnp.where(same | (numbers == 0)[:, None], -jnp.inf, scores)
        mate, top = (
            jnp.stack([part[:, start:stop].max(1) for start, stop in itertools.pairwise(self.bounds)], 1)
            for part in (mates, others)
        )
        rank = 1 + (others >= mate.max(1, keepdims=True)).sum(1)
        best, places = jax.lax.top_k(others.ravel(), min(self.listed, others.size))
        return mate, top, rank, best, numbers[places // len(entries)] - 1


def search_galleries(descriptors: np.ndarray, search: Search) -> Outcomes:
    """Compares every probe with every entry, in blocks; each device searches for its share of the probes.

    Args:
      descriptors: [T, D] float32 unit rows.
      search: the protocol.
    """
    parts = list(search.galleries.values())
    positions, subjects = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    bounds = np.cumsum([0, *(len(part.positions) for part in parts)])
    count = len(search.probes.positions)
    # A merged threshold is among the first ceil(P F), in resamples somewhat further on.
    listed = 4 * math.ceil(count * max(FPIRS)) + 1000
    codes = np.unique(np.concatenate([search.probes.subjects, subjects]), return_inverse=True)[1]
    probes = descriptors[search.probes.positions], codes[:count], np.arange(1, count + 1)
    found = []
    best, owners = np.empty(0, np.float32), np.empty(0, np.int64)
    compare = _Comparison(tuple(bounds.tolist()), listed)
    for rows, (*fields, scores, of) in row_blocks(
        compare, probes, (descriptors[positions], codes[count:]), len(positions)
    ):
        found.append([field[: rows.stop - rows.start] for field in fields])
        best, owners = np.append(best, scores[scores > -np.inf]), np.append(owners, of[scores > -np.inf])
        highest = np.lexsort((owners, -best))[:listed]
        best, owners = best[highest], owners[highest]
    return Outcomes(*map(np.concatenate, zip(*found, strict=True)), best, owners, len(positions))


def identification_metrics(found: Outcomes) -> dict[str, float | int | None]:
    """Closed-set ranks, open-set TPIR at FPIR, and the figures of older code.

    - `rank@R`: share of mated probes among whose R best entries of the merged galleries a mate is. Ties
      count against the mate.
    - `tpir@fpir=F`: each gallery apart. Probes without a mate in it set the threshold: the largest set
      of them with a top score above it whose share does not exceed F. A mated probe is a hit if its
      mate is first and above the threshold. Averaged over galleries.
    - `merged_tpir@fpir=F`, `merged_threshold@fpir=F`: the merged galleries, where every probe has a
      mate; the threshold is the ceil(P F)-th highest non-mate score of all pairs of probe and entry, a
      hit any mate's score above it. IJB figures of InsightFace's code are of this kind; they are not
      open-set figures.

    Args:
      found: by `search_galleries`.

    Returns:
      Metrics by name; None where too few probes are without a mate.
    """
    mated = found.mated().any(1)
    drawn = identification_draws(found, np.ones((1, len(mated)), np.float32))
    figures = {name: None if np.isnan(value) else float(value) for name, (value,) in drawn.items()}
    return {"probes": len(mated), "mated_probes": int(mated.sum()), "gallery": found.entries, **figures}


def identification_draws(found: Outcomes, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Ranks and TPIRs where probes count several times or not at all; thresholds are set anew.

    Args:
      found: by `search_galleries`.
      weights: [R, P] float32, how often each probe counts.

    Returns:
      Figures of `identification_metrics` -> [R] float64, NaN where there is none.
    """
    mated = found.mated().any(1)
    everyone = weights @ mated.astype(np.float64)
    drawn = {f"rank@{rank}": _share(weights @ (mated & (found.rank <= rank)), everyone) for rank in RANKS}
    names = {fpir: f"fpir=1e-{round(-math.log10(fpir))}" for fpir in FPIRS}
    for fpir, name in names.items():
        rates = [_tpir(mate, top, weights, fpir) for mate, top in zip(found.mate.T, found.top.T, strict=True)]
        drawn[f"tpir@{name}"] = np.mean(rates, axis=0)
    for fpir, name in names.items():
        drawn[f"merged_tpir@{name}"], drawn[f"merged_threshold@{name}"] = _merged(found, weights, fpir)
    return drawn


def match_curve(found: Outcomes, ranks: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """The CMC: ranks from 1 to `ranks`, and the share of mated probes at each or better."""
    rank = found.rank[found.mated().any(1)]
    reached = np.bincount(np.minimum(rank, ranks + 1), minlength=ranks + 2).cumsum()
    return np.arange(1, ranks + 1), reached[1 : ranks + 1] / max(len(rank), 1)


def _tpir(mate: np.ndarray, top: np.ndarray, weights: np.ndarray, fpir: float) -> np.ndarray:
    """TPIR of one gallery, conservatively, in each row of weights; NaN where too few probes have no mate."""
    mated = mate > -np.inf
    strangers = np.flatnonzero(~mated)
    strangers = strangers[np.argsort(-top[strangers], kind="stable")]
    hits = np.flatnonzero(mated & (mate > top))
    hits = hits[np.argsort(-mate[hits], kind="stable")]
    rates = np.full(len(weights), np.nan)
    thresholds = np.append(top[strangers], -np.inf)  # of the first stranger refused
    for number, weight in enumerate(weights):
        alarms = np.cumsum(weight[strangers], dtype=np.float64)
        people = float(weight[mated].sum(dtype=np.float64))
        if not people or not len(alarms) or fpir * alarms[-1] + 1e-6 < 1:
            continue
        threshold = thresholds[np.searchsorted(alarms, fpir * alarms[-1] + 1e-6, side="right")]
        above = np.searchsorted(-mate[hits], -threshold, side="left")
        rates[number] = weight[hits[:above]].sum(dtype=np.float64) / people
    return rates


def _merged(found: Outcomes, weights: np.ndarray, fpir: float) -> tuple[np.ndarray, np.ndarray]:
    """TPIR and threshold of the merged galleries in each row of weights; NaN where more scores are needed."""
    probes = weights.sum(1, dtype=np.float64)
    wanted = np.ceil(probes * fpir)[:, None]
    places = (np.cumsum(weights[:, found.best_owners], axis=1, dtype=np.float64) < wanted).sum(1)
    thresholds = np.append(found.best_others, np.nan).astype(np.float64)[places]
    hits = found.mate.max(1) > thresholds[:, None]
    rates = _share((weights * hits).sum(1, dtype=np.float64), probes)
    return np.where(np.isnan(thresholds), np.nan, rates), thresholds


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
