"""What a run evaluates: all five methods, 1:1 and where there are galleries 1:N."""

from typing import NamedTuple

import numpy as np

from fpsset.aggregator import Aggregator
from fpsset.data.feature_table import UNKNOWN_SUBJECT, FeatureTable, templates
from fpsset.data.ijb import SearchLists
from fpsset.descriptors import Descriptors, describe
from fpsset.errors import InputError
from fpsset.evaluation.identification import Search, identification_metrics, search_protocol
from fpsset.evaluation.intervals import SubjectResampler
from fpsset.evaluation.verification import (
    CONVENTIONS,
    Pairs,
    all_pairs,
    far_name,
    listed_pairs,
    operating_points,
    pair_scores,
    roc,
)
from fpsset.face_set import RaggedSets
from fpsset.models.pooling import baselines

Metrics = dict[str, float | int | str | None]
Curves = dict[str, tuple[np.ndarray, np.ndarray]]


class Protocol(NamedTuple):
    """T templates, the pairs of them to compare, and the galleries to search."""

    subjects: np.ndarray  # [T]
    sets: RaggedSets  # T sets
    pairs: Pairs
    search: Search | None
    dim: int
    backbone: str  # digest of the weights that made the embeddings; empty when not known
    name: str


def make_protocol(table: FeatureTable, pairs_file: str = "", search: SearchLists | None = None) -> Protocol:
    """Templates, pairs and galleries of a table.

    Args:
      table: faces with templates; without them each subject's faces are split in two.
      pairs_file: pairs to score; all pairs of templates when empty.
      search: lists of a 1:N protocol.

    Raises:
      InputError: a malformed pairs file, a list that names a template without faces, or no genuine or
        no impostor pair.
    """
    if pairs_file and table.template is None:
        raise InputError(f"{table.name}: no column 'template'; the pairs of {pairs_file} need one")
    ids, subjects, sets = templates(table)
    pairs = listed_pairs(pairs_file, ids, subjects) if pairs_file else all_pairs(subjects)
    if pairs.same.all() or not pairs.same.any():
        kind = "impostor" if pairs.same.all() else "genuine"
        raise InputError(
            f"{pairs_file or table.name}: holds no {kind} pair of templates; verification needs both"
        )
    found = search_protocol(search.galleries, search.probes, ids) if search else None
    return Protocol(subjects, sets, pairs, found, table.dim, table.backbone, table.name)


def evaluate(
    aggregator: Aggregator,
    protocol: Protocol,
    fps_gamma: float = 0.35,
    resamples: int = 200,
    faces_per_batch: int = 8192,
    convention: str = "conservative",
) -> tuple[dict[str, dict[str, Metrics]], Curves]:
    """Verification, and identification where there are galleries, by the four baselines and the model.

    Args:
      aggregator: the trained model.
      protocol: templates and pairs.
      fps_gamma: exponent of the norm in the baseline 'fps'.
      resamples: of the subjects, for 95% intervals; 0 for none.
      faces_per_batch: padded faces a batch.
      convention: a name of `CONVENTIONS`.

    Returns:
      ({'verification' and maybe 'identification': {method: {metric: value}}}, {method: (FAR, TAR)
      along the ROC}).

    Raises:
      InputError: embeddings of another backbone than the model's.
    """
    require_backbone(protocol, aggregator.dim, aggregator.backbone)
    sets = aggregator.scaled(protocol.sets)
    models = {**baselines(aggregator.model.coreset_size, fps_gamma), "fpsset": aggregator.model}
    described = describe(models, {"fpsset": aggregator.variables}, sets, faces_per_batch)
    # Intervals resample subjects as conservative figures count, so they need all and go with those.
    wanted = convention == "conservative" and (protocol.subjects != UNKNOWN_SUBJECT).all()
    resampler = SubjectResampler(protocol.pairs, protocol.subjects, resamples if wanted else 0)
    results: dict[str, dict[str, Metrics]] = {"verification": {}}
    curves: Curves = {}
    if protocol.search:
        results["identification"] = {}
    for name, descriptors in described.items():
        scores = pair_scores(descriptors.vectors, protocol.pairs)
        results["verification"][name] = verification_metrics(
            scores, protocol.pairs, protocol.subjects, resampler, convention
        )
        if protocol.search:
            results["identification"][name] = identification_metrics(descriptors.vectors, protocol.search)
        curves[name] = roc(scores, protocol.pairs.same)
    return results, curves


def require_backbone(protocol: Protocol, dim: int, backbone: str) -> None:
    """Raises InputError unless the protocol's embeddings can be of the backbone the model was trained on.

    Args:
      protocol: what is to be evaluated.
      dim: width of the model's embeddings.
      backbone: digest of the backbone behind them; empty when not known.
    """
    if protocol.dim != dim:
        raise InputError(
            f"{protocol.name}: embeddings are {protocol.dim} wide but the model takes {dim}; "
            "extract both with one backbone"
        )
    if backbone and protocol.backbone and backbone != protocol.backbone:
        raise InputError(
            f"{protocol.name}: its embeddings are of the backbone {protocol.backbone}, the model's of "
            f"{backbone}; extract both with one backbone"
        )


def require_model(aggregator: Aggregator, wanted) -> None:
    """Raises InputError unless the checkpoint's architecture is that of `wanted`, a `config.model`."""
    for field in ("coreset_size", "num_heads"):
        held = getattr(aggregator.model, field)
        if held != wanted[field]:
            raise InputError(
                f"{aggregator.name}: was trained with model.{field} {held}, not {wanted[field]}; "
                f"give --config.model.{field}={held}, or another workdir"
            )


def verification_metrics(
    scores: np.ndarray,
    pairs: Pairs,
    subjects: np.ndarray,
    resampler: SubjectResampler,
    convention: str = "conservative",
) -> Metrics:
    """All figures of one method: counts, and per FAR target the TAR, its interval and what was achieved.

    Args:
      scores: [P] of the pairs.
      pairs: P pairs.
      subjects: [T].
      resampler: for the intervals.
      convention: a name of `CONVENTIONS`.

    Returns:
      Metrics by name; None where there are not enough impostors.
    """
    metrics: Metrics = {
        "subjects": len(np.unique(subjects)),
        "templates": len(subjects),
        "genuine_pairs": int(pairs.same.sum()),
        "impostor_pairs": int((~pairs.same).sum()),
        "convention": convention,
    }
    intervals = resampler.tar_intervals(scores)
    for point in CONVENTIONS[convention](scores, pairs.same):
        name = far_name(point.far)
        metrics[f"tar@far={name}"] = point.tar
        if point.far in intervals:
            metrics[f"tar_low@far={name}"], metrics[f"tar_high@far={name}"] = intervals[point.far]
        metrics[f"achieved_far@far={name}"] = point.achieved_far
        metrics[f"threshold@far={name}"] = point.threshold
    return metrics


def validation_tar(descriptors: Descriptors, pairs: Pairs, far: float) -> float:
    """TAR at one FAR, for choosing a checkpoint on held-out people."""
    (point,) = operating_points(pair_scores(descriptors.vectors, pairs), pairs.same, (far,))
    return point.tar
