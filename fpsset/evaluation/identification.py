"""1:N identification: a probe's template against galleries, closed and open set."""

import math
from typing import NamedTuple

import numpy as np

from fpsset.errors import InputError

RANKS = (1, 5, 10)
FPIRS = (1e-2, 1e-1)
_CHUNK = 2048  # probes scored at once


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


def identification_metrics(descriptors: np.ndarray, search: Search) -> dict[str, float | int | None]:
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
      descriptors: [T, D] unit rows.
      search: the protocol.

    Returns:
      Metrics by name; None where too few probes are without a mate.
    """
    parts = list(search.galleries.values())
    merged = Templates(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    everyone = _compare(descriptors, search.probes, merged, max(FPIRS))
    mated = everyone.mated
    metrics: dict[str, float | int | None] = {
        "probes": len(mated),
        "mated_probes": int(mated.sum()),
        "gallery": len(merged.positions),
    }
    for rank in RANKS:
        metrics[f"rank@{rank}"] = float(np.mean(everyone.rank[mated] <= rank)) if mated.any() else None
    apart = [_compare(descriptors, search.probes, gallery, 0.0) for gallery in parts]
    for fpir in FPIRS:
        name = f"fpir=1e-{round(-math.log10(fpir))}"
        rates = [_tpir(one, fpir) for one in apart]
        metrics[f"tpir@{name}"] = None if None in rates else float(np.mean(rates))
        threshold = everyone.best_others[min(math.ceil(len(mated) * fpir), len(everyone.best_others)) - 1]
        metrics[f"merged_tpir@{name}"] = float(np.mean(everyone.mate > threshold))
        metrics[f"merged_threshold@{name}"] = float(threshold)
    return metrics


class _Comparison(NamedTuple):
    """P probes against one gallery."""

    mated: np.ndarray  # [P] bool, the gallery holds the subject
    mate: np.ndarray  # [P] best score of an entry of the same subject, -inf without
    top: np.ndarray  # [P] best score of an entry of another subject
    rank: np.ndarray  # [P] of the best mate, from 1
    best_others: np.ndarray  # scores of non-mate pairs, highest first, as many as were asked for


def _compare(descriptors: np.ndarray, probes: Templates, gallery: Templates, keep: float) -> _Comparison:
    """Scores in chunks of probes; keeps the ceil(P keep) highest scores of non-mate pairs, at least one."""
    entries = np.ascontiguousarray(descriptors[gallery.positions].T)
    wanted = max(1, math.ceil(len(probes.positions) * keep))
    mated, mate, top, rank = [], [], [], []
    best_others = np.empty(0, np.float32)
    for start in range(0, len(probes.positions), _CHUNK):
        part = slice(start, start + _CHUNK)
        scores = descriptors[probes.positions[part]] @ entries
        same = probes.subjects[part, None] == gallery.subjects[None]
        mates = np.where(same, scores, -np.inf)
        others = np.where(same, -np.inf, scores)
        mated.append(same.any(1))
        mate.append(mates.max(1))
        top.append(others.max(1))
        rank.append(1 + (others >= mate[-1][:, None]).sum(1))
        pool = np.concatenate([best_others, others[others > -np.inf]])
        best_others = np.partition(pool, len(pool) - min(wanted, len(pool)))[
            len(pool) - min(wanted, len(pool)) :
        ]
    return _Comparison(*map(np.concatenate, (mated, mate, top, rank)), np.sort(best_others)[::-1])


def _tpir(found: _Comparison, fpir: float) -> float | None:
    """TPIR of one gallery, conservatively; None where too few probes have no mate."""
    strangers = np.sort(found.top[~found.mated])[::-1]
    allowed = math.floor(fpir * len(strangers) + 1e-6)
    if allowed < 1 or not found.mated.any():
        return None
    threshold = strangers[allowed] if allowed < len(strangers) else -np.inf
    mate, top = found.mate[found.mated], found.top[found.mated]
    return float(np.mean((mate > top) & (mate > threshold)))
