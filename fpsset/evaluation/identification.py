"""1:N identification: probe templates searched in galleries, closed and open set."""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fpsset.errors import InputError
from fpsset.evaluation.resampling import estimate
from fpsset.evaluation.results import Identification, MergedPoint
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
    """Looks up the templates that a protocol lists.

    Args:
      galleries: name -> [G, 2] (template, subject).
      probes: [P, 2] (template, subject).
      template_ids: [T] sorted ids of the templates that have faces.

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
    """Scores of P probes against G galleries, separately and merged."""

    mate: np.ndarray  # [P, G] best score of a mate in the gallery, -inf without one
    top: np.ndarray  # [P, G] best score of a non-mate
    rank: np.ndarray  # [P] rank of the best mate in the merged galleries, from 1; ties count against it
    best_others: np.ndarray  # [B] highest non-mate scores of all pairs of probe and entry, descending
    best_owners: np.ndarray  # [B] the probe of each
    entries: int  # in the merged galleries

    def mated(self) -> np.ndarray:
        """[P, G] bool, whether the gallery holds the probe's subject."""
        return self.mate > -np.inf


class _Comparison(NamedTuple):
    """Compares a block of probes with the entries of all galleries, on one device."""

    bounds: tuple[int, ...]  # first entry of each gallery, then the number of entries
    listed: int  # how many of the highest non-mate scores to return

    def __call__(self, probes, subjects, templates, numbers, entries, entry_subjects, entry_templates):
        """Fields of `Outcomes` for p probes; their numbers [p] are 0 in padding."""
        scores = cosines(probes, entries)
        same = subjects[:, None] == entry_subjects[None]
        mates = jnp.where(same & (templates[:, None] != entry_templates[None]), scores, -jnp.inf)
        others = jnp.where(same | (numbers == 0)[:, None], -jnp.inf, scores)
        mate, top = (
            jnp.stack([part[:, start:stop].max(1) for start, stop in itertools.pairwise(self.bounds)], 1)
            for part in (mates, others)
        )
        rank = 1 + (others >= mate.max(1, keepdims=True)).sum(1)
        best, places = jax.lax.top_k(others.ravel(), min(self.listed, others.size))
        return mate, top, rank, best, numbers[places // len(entries)] - 1


def search_galleries(descriptors: np.ndarray, search: Search) -> Outcomes:
    """Compares every probe with every entry but itself, in blocks; the devices share the probes.

    A template that is a probe and in a gallery is not its own mate.

    Args:
      descriptors: [T, D] float32 unit rows.
      search: the protocol.
    """
    parts = list(search.galleries.values())
    positions, subjects = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    bounds = np.cumsum([0, *(len(part.positions) for part in parts)])
    count = len(search.probes.positions)
    # A merged threshold is among the first ceil(P F) scores, or somewhat further on in a resample.
    listed = 4 * math.ceil(count * max(FPIRS)) + 1000
    codes = np.unique(np.concatenate([search.probes.subjects, subjects]), return_inverse=True)[1]
    templates = search.probes.positions.astype(np.int32), positions.astype(np.int32)
    probes = descriptors[search.probes.positions], codes[:count], templates[0], np.arange(1, count + 1)
    found = []
    best, owners = np.empty(0, np.float32), np.empty(0, np.int64)
    compare = _Comparison(tuple(bounds.tolist()), listed)
    for rows, (*fields, scores, numbers) in row_blocks(
        compare, probes, (descriptors[positions], codes[count:], templates[1]), len(positions)
    ):
        found.append([field[: rows.stop - rows.start] for field in fields])
        best, owners = np.append(best, scores[scores > -np.inf]), np.append(owners, numbers[scores > -np.inf])
        highest = np.lexsort((owners, -best))[:listed]
        best, owners = best[highest], owners[highest]
    return Outcomes(*map(np.concatenate, zip(*found, strict=True)), best, owners, len(positions))


def identification_metrics(
    found: Outcomes, weights: np.ndarray | None = None, ranks: tuple[int, ...] = RANKS
) -> Identification:
    """All 1:N figures of one method; see `Identification` for their definitions.

    Args:
      found: from `search_galleries`.
      weights: [R, P] float32, how often each probe counts in R draws, for intervals; thresholds are set anew.
      ranks: at which identification rates are given.
    """
    mated = found.mated().any(1)
    whole = np.ones((1, len(mated)), np.float32)
    weights = whole if weights is None else np.concatenate([whole, weights])
    everyone = weights @ mated.astype(np.float64)

    def estimated(rates: np.ndarray):
        return estimate(rates[0], rates[1:])

    def tpir(fpir: float) -> np.ndarray:
        rates = [_tpir(mate, top, weights, fpir) for mate, top in zip(found.mate.T, found.top.T, strict=True)]
        return np.mean(rates, axis=0)

    return Identification(
        probes=len(mated),
        mated_probes=int(mated.sum()),
        gallery=found.entries,
        ranks={rank: estimated(_share(weights @ (mated & (found.rank <= rank)), everyone)) for rank in ranks},
        tpir={fpir: estimated(tpir(fpir)) for fpir in FPIRS},
        merged={fpir: MergedPoint(*map(estimated, _merged(found, weights, fpir))) for fpir in FPIRS},
    )


def match_curve(found: Outcomes, ranks: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """The CMC: ranks 1 to `ranks`, and the share of mated probes at each rank or better."""
    rank = found.rank[found.mated().any(1)]
    reached = np.bincount(np.minimum(rank, ranks + 1), minlength=ranks + 2).cumsum()
    return np.arange(1, ranks + 1), reached[1 : ranks + 1] / max(len(rank), 1)


def open_set_curve(found: Outcomes, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """DIR at rank 1 against the FAR of the probes without a mate: TPIR against FPIR, the mean over galleries.

    The thresholds are those of `Identification.tpir`. A gallery's rates change only where one more of its
    probes without a mate is accepted; of those FPIRs, at most about `points` are kept, even on a log axis.

    Args:
      found: from `search_galleries`.
      points: how many to keep.

    Returns:
      ([N] FPIR > 0, rising; [N] TPIR). Empty where a gallery has no probe with, or none without a mate.
    """
    galleries = [_rates_by_accepted(*parts) for parts in zip(found.mate.T, found.top.T, strict=True)]
    if any(len(rates) < 2 or np.isnan(rates).any() for rates in galleries):
        return np.empty(0), np.empty(0)
    every = np.unique(np.concatenate([np.arange(1, len(rates)) / (len(rates) - 1) for rates in galleries]))
    near = np.searchsorted(every, np.geomspace(every[0], 1.0, points) * (1 - 1e-9))
    fpir = every[np.unique(near)]
    tpir = [rates[(fpir * (len(rates) - 1) + 1e-6).astype(int)] for rates in galleries]
    return fpir, np.mean(tpir, axis=0)


def _rates_by_accepted(mate: np.ndarray, top: np.ndarray) -> np.ndarray:
    """[U + 1] TPIR of one gallery where 0 ... U of its U probes without a mate may be accepted."""
    mated = mate > -np.inf
    thresholds = np.append(np.sort(top[~mated])[::-1], -np.inf)  # scores of the first rejected
    hits = np.sort(mate[mated & (mate > top)])
    above = len(hits) - np.searchsorted(hits, thresholds, side="right")
    return above / mated.sum() if mated.any() else np.full(len(thresholds), np.nan)


def _tpir(mate: np.ndarray, top: np.ndarray, weights: np.ndarray, fpir: float) -> np.ndarray:
    """[R] conservative TPIR of one gallery by each row of weights; NaN where too few probes lack a mate."""
    mated = mate > -np.inf
    unmated = np.flatnonzero(~mated)
    unmated = unmated[np.argsort(-top[unmated], kind="stable")]
    hits = np.flatnonzero(mated & (mate > top))
    hits = hits[np.argsort(-mate[hits], kind="stable")]
    rates = np.full(len(weights), np.nan)
    thresholds = np.append(top[unmated], -np.inf)  # scores of the first rejected
    for number, weight in enumerate(weights):
        false = np.cumsum(weight[unmated], dtype=np.float64)
        people = float(weight[mated].sum(dtype=np.float64))
        if not people or not len(false) or fpir * false[-1] + 1e-6 < 1:
            continue
        threshold = thresholds[np.searchsorted(false, fpir * false[-1] + 1e-6, side="right")]
        above = np.searchsorted(-mate[hits], -threshold, side="left")
        rates[number] = weight[hits[:above]].sum(dtype=np.float64) / people
    return rates


def _merged(found: Outcomes, weights: np.ndarray, fpir: float) -> tuple[np.ndarray, np.ndarray]:
    """[R] TPIR and threshold of merged galleries by each row of weights; NaN if too few scores are kept."""
    probes = weights.sum(1, dtype=np.float64)
    wanted = np.ceil(probes * fpir)[:, None]
    places = (np.cumsum(weights[:, found.best_owners], axis=1, dtype=np.float64) < wanted).sum(1)
    thresholds = np.append(found.best_others, np.nan).astype(np.float64)[places]
    hits = found.mate.max(1) > thresholds[:, None]
    rates = _share((weights * hits).sum(1, dtype=np.float64), probes)
    return np.where(np.isnan(thresholds), np.nan, rates), thresholds


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
