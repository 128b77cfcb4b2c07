"""Evaluates a model and the plain poolings on the 1:N searches that a protocol lists."""

from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.data.listed_searches import ListedSearches, Task
from fpsset.errors import InputError
from fpsset.evaluation.identification import (
    Outcomes,
    Search,
    Templates,
    identification_metrics,
    match_curve,
    open_set_curve,
    search_galleries,
)
from fpsset.evaluation.mean_precision import average_precision, mate_ranks
from fpsset.evaluation.protocols import require_backbone
from fpsset.evaluation.resampling import Estimate, SubjectDraws, estimate
from fpsset.evaluation.results import Identification
from fpsset.face_set import RaggedSets
from fpsset.inference.aggregator import SetAggregator
from fpsset.inference.descriptors import describe
from fpsset.models.pooling import baselines
from fpsset.ops.metric import DEFAULT_GAMMA

OURS = "fpsset"


class SearchFigures(NamedTuple):
    """Figures of one method in one task.

    Attributes:
      identification: of the probes and gallery templates that have faces.
      retrieval: R -> the end-to-end retrieval rate: of all listed probes whose subject a gallery lists, the
        share with a mate among the R best; those without a face, or whose mates have none, are missed. Empty
        where the protocol does not ask for it.
      mean_precision: the mean average precision; None where the protocol does not ask for it.
      listed: probes, with or without faces.
      listed_mated: those of them whose subject a gallery lists.
    """

    identification: Identification
    retrieval: dict[int, Estimate]
    mean_precision: Estimate | None
    listed: int
    listed_mated: int


class SearchEvaluation(NamedTuple):
    """All that an evaluation finds, by task and method."""

    figures: dict[str, dict[str, SearchFigures]]
    curves: dict[str, dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]]  # task -> 'cmc', 'dir' -> method
    resamples: int
    seed: int


def evaluate_searches(
    aggregator: SetAggregator,
    table: FeatureTable,
    listed: ListedSearches,
    resamples: int = 200,
    seed: int = 0,
    faces_per_batch: int = 8192,
) -> SearchEvaluation:
    """Evaluates the baselines and the model, the method 'fpsset', on the same draws of the probes' subjects.

    Args:
      aggregator: the model.
      table: the faces, for their backbone.
      listed: the protocol, over these faces.
      resamples: draws of each task's subjects for 95% intervals; 0 for none.
      seed: of the draws.
      faces_per_batch: faces per batch, padding included.

    Raises:
      InputError: embeddings of another backbone than the model's, or a task of which no probe, or nothing in
        a gallery, has a face.
    """
    require_backbone(table, aggregator.dim, aggregator.backbone)
    held = listed.sets.sizes() > 0
    places = np.where(held, np.cumsum(held) - 1, -1)
    searches = {name: _with_faces(name, task, places, listed) for name, task in listed.tasks.items()}
    sets = aggregator.scaled(_without_empty(listed.sets))
    models = {**baselines(aggregator.module.coreset_size, DEFAULT_GAMMA), OURS: aggregator.module}
    described = describe(models, {OURS: aggregator.variables}, sets, faces_per_batch, show=True)
    figures: dict[str, dict[str, SearchFigures]] = {}
    curves: dict[str, dict] = {}
    for name, task in listed.tasks.items():
        search, mated = searches[name], _listed_mated(task, listed.subjects)
        draws = SubjectDraws(listed.subjects[task.probes], resamples, seed)
        weights = draws.weights[:, draws.codes]  # [R, all listed probes]
        with_faces = places[task.probes] >= 0
        figures[name], curves[name] = {}, {"cmc": {}, "dir": {}}
        for method, descriptors in described.items():
            found = search_galleries(descriptors.vectors, search)
            precision = None
            if listed.mean_precision:
                ranks = mate_ranks(descriptors.vectors, search)
                precision = _mean(average_precision(ranks), weights[:, with_faces])
            figures[name][method] = SearchFigures(
                identification_metrics(found, weights[:, with_faces], listed.ranks),
                _retrieval(found, with_faces, mated, weights, listed.ranks) if listed.end_to_end else {},
                precision,
                len(mated),
                int(mated.sum()),
            )
            curves[name]["cmc"][method] = match_curve(found)
            open_set = open_set_curve(found)
            if len(open_set[0]):
                curves[name]["dir"][method] = open_set
    return SearchEvaluation(figures, curves, len(draws), seed)


def _with_faces(name: str, task: Task, places: np.ndarray, listed: ListedSearches) -> Search:
    """The search among templates that have faces."""

    def those(templates: np.ndarray, what: str) -> Templates:
        kept = templates[places[templates] >= 0]
        if not len(kept):
            raise InputError(f"{listed.name}, {name}: {what} has a face in the features; extract all of them")
        return Templates(places[kept], listed.subjects[kept])

    galleries = {key: those(held, f"nobody in gallery {key}") for key, held in task.galleries.items()}
    return Search(galleries, those(task.probes, "no probe"))


def _without_empty(sets: RaggedSets) -> RaggedSets:
    sizes = sets.sizes()
    return sets._replace(starts=np.concatenate([[0], np.cumsum(sizes[sizes > 0])]))


def _listed_mated(task: Task, subjects: np.ndarray) -> np.ndarray:
    """[P] bool: whether a gallery lists the subject of each listed probe, in another template."""
    gallery = np.concatenate(list(task.galleries.values()))
    people, counts = np.unique(subjects[gallery], return_counts=True)
    probes = subjects[task.probes]
    place = np.minimum(np.searchsorted(people, probes), len(people) - 1)
    times = np.where(people[place] == probes, counts[place], 0)
    return times > np.isin(task.probes, gallery)


def _retrieval(
    found: Outcomes,
    with_faces: np.ndarray,
    mated: np.ndarray,
    weights: np.ndarray,
    ranks: tuple[int, ...],
) -> dict[int, Estimate]:
    rank = np.full(len(mated), np.inf)
    rank[with_faces] = np.where(found.mated().any(1), found.rank, np.inf)
    values = {limit: np.where(mated, rank <= limit, np.nan) for limit in ranks}
    return {limit: _mean(value, weights) for limit, value in values.items()}


def _mean(values: np.ndarray, weights: np.ndarray) -> Estimate:
    """The mean of [P] values, leaving out NaN, and its interval by [R, P] weights."""
    kept = ~np.isnan(values)
    if not kept.any():
        return Estimate(None)
    total = weights[:, kept].sum(1, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # a draw may have none of them
        draws = weights[:, kept].astype(np.float64) @ values[kept] / total
    return estimate(float(values[kept].mean()), draws)
