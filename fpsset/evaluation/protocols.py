"""What a run evaluates: all five methods, 1:1 and where there are galleries 1:N."""

from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import UNKNOWN_SUBJECT, FeatureTable, templates
from fpsset.data.ijb import SearchLists
from fpsset.errors import InputError
from fpsset.evaluation.identification import (
    Search,
    identification_draws,
    identification_metrics,
    match_curve,
    search_galleries,
    search_protocol,
)
from fpsset.evaluation.pooling_protocols import pool_by
from fpsset.evaluation.resampling import Metrics, SubjectDraws, with_intervals
from fpsset.evaluation.scoring import PairScorer, pair_scores
from fpsset.evaluation.strata import Strata
from fpsset.evaluation.verification import (
    CONVENTIONS,
    FARS,
    Pairs,
    all_pairs,
    area_under_curve,
    equal_error_rate,
    far_name,
    listed_pairs,
    operating_points,
    roc,
)
from fpsset.evaluation.verification_draws import VerificationDraws
from fpsset.face_set import RaggedSets
from fpsset.inference.aggregator import Aggregator
from fpsset.inference.descriptors import Descriptors, describe, describe_one
from fpsset.models.pooling import baselines
from fpsset.runtime.digests import arrays_digest

Results = dict[str, dict[str, Metrics]]
Curves = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]
_QUALITY_FAR = 1e-3  # or the lowest above it that the pairs allow


class Protocol(NamedTuple):
    """T templates, the pairs of them to compare, and the galleries to search."""

    subjects: np.ndarray  # [T]
    sets: RaggedSets  # T sets
    pairs: Pairs
    search: Search | None
    dim: int
    backbone: str  # digest of the weights that made the embeddings; empty when not known
    name: str
    score: np.ndarray | None = None  # [M] the face detector's, where it is known
    flipped: np.ndarray | None = None  # [M, D] features of the mirrored images, where there are


class Evaluation(NamedTuple):
    """All that an evaluation finds; methods are in the order of the tables."""

    # {'verification', maybe 'identification' and 'quality', and where there are intervals 'paired':
    # {method: {metric: value}}}. In 'paired' a method is 'fpsset - OTHER', a value the difference, with its
    # interval on the same draws.
    results: Results
    curves: Curves  # {'roc', maybe 'cmc', 'input_norm' and 'output_norm': {method: its points}}
    draws: dict[str, dict[str, np.ndarray]]  # {method: {figure: its value in each draw, [R]}}
    fingerprints: dict[str, str]  # of 'model', 'backbone', 'faces', 'protocol' and 'draws'


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
    return Protocol(
        subjects, sets, pairs, found, table.dim, table.backbone, table.name, table.score, table.flipped
    )


def evaluate(
    aggregator: Aggregator,
    protocol: Protocol,
    fps_gamma: float = 0.35,
    resamples: int = 200,
    faces_per_batch: int = 8192,
    convention: str = "conservative",
    pooling: str = "",
    seed: int = 0,
    packed: bool = False,
) -> Evaluation:
    """Verification, and identification where there are galleries, by the four baselines and the model.

    Args:
      aggregator: the trained model.
      protocol: templates and pairs.
      fps_gamma: exponent of the norm in the baseline 'fps'.
      resamples: of the subjects, for 95% intervals; 0 for none.
      faces_per_batch: padded faces a batch.
      convention: a name of `CONVENTIONS`.
      pooling: of one more method, which goes by this name; as of `pool_by`.
      seed: of the resampling.
      packed: let small sets share rows of slots, as of `batching.batches`.

    Returns:
      Evaluation.

    Raises:
      InputError: embeddings of another backbone than the model's.
    """
    require_backbone(protocol, aggregator.dim, aggregator.backbone)
    sets = aggregator.scaled(protocol.sets)
    models = {**baselines(aggregator.module.coreset_size, fps_gamma), "fpsset": aggregator.module}
    options = {"faces_per_batch": faces_per_batch, "packed": packed}
    described = describe(models, {"fpsset": aggregator.variables}, sets, show=True, **options)
    if pooling:
        one, its_sets = pool_by(pooling, protocol.sets, protocol.score, protocol.flipped, protocol.name)
        described = {pooling: describe_one(one, {}, its_sets, **options), **described}
    known = (protocol.subjects != UNKNOWN_SUBJECT).all()
    draws = SubjectDraws(protocol.subjects, resamples if known else 0, seed)
    score, drawn_pairs = PairScorer(protocol.pairs), VerificationDraws(protocol.pairs, draws, convention)
    strata = Strata(protocol.sets, protocol.pairs, draws)
    results: Results = {"verification": {}}
    curves: Curves = {"roc": {}}
    drawn: dict[str, dict[str, np.ndarray]] = {}
    if protocol.search:
        results["identification"], curves["cmc"] = {}, {}
        probes = draws.weights[:, draws.codes[protocol.search.probes.positions]]
    for name, descriptors in described.items():
        scores = score(descriptors.vectors)
        metrics = verification_metrics(scores, protocol.pairs, protocol.subjects, convention)
        figures = drawn_pairs(scores)
        results["verification"][name] = with_intervals(metrics, figures) | draws.facts()
        curves["roc"][name] = roc(scores, protocol.pairs.same)
        drawn[name] = figures
        far = next((far for far in reversed(FARS) if _answers(metrics, far)), None)
        if far:
            found, by_norm = strata(scores, metrics[f"threshold@far={far_name(far)}"], descriptors.norms)
            results.setdefault("quality", {})[name] = {"far": far_name(far), **found}
            for kind, points in by_norm.items():
                curves.setdefault(kind, {})[name] = points
        if protocol.search:
            found = search_galleries(descriptors.vectors, protocol.search)
            figures = identification_draws(found, probes) if len(draws) else {}
            results["identification"][name] = with_intervals(identification_metrics(found), figures)
            curves["cmc"][name] = match_curve(found)
            drawn[name] |= figures
    if len(draws):
        results["paired"] = {
            f"fpsset - {name}": _paired(results, drawn, "fpsset", name)
            for name in results["verification"]
            if name != "fpsset"
        }
    fingerprints = {
        "model": aggregator.digest,
        "backbone": protocol.backbone or aggregator.backbone,
        "training faces": aggregator.train_fingerprint,
        "faces": faces_fingerprint(protocol.sets),
        "protocol": protocol_fingerprint(
            protocol.subjects, protocol.sets.sizes(), protocol.pairs, protocol.search, convention
        ),
        "draws": arrays_digest(draws.weights),
    }
    return Evaluation(results, curves, drawn, fingerprints)


def protocol_fingerprint(
    subjects: np.ndarray, sizes: np.ndarray, pairs: Pairs, search: Search | None, convention: str
) -> str:
    """Of what is compared with what and how it is read off, whatever the embeddings are.

    Args:
      subjects: [T] of the templates.
      sizes: [T] faces per template.
      pairs: of the templates.
      search: the 1:N protocol, where there is one.
      convention: of TAR at FAR.

    Returns:
      16 hexadecimal digits.
    """
    arrays = [subjects, sizes, *pairs]
    if search:
        for name in sorted(search.galleries):
            arrays += [np.array(name), *search.galleries[name]]
        arrays += search.probes
    return arrays_digest(np.array(convention), *arrays)


def faces_fingerprint(sets: RaggedSets) -> str:
    """Of the faces of all templates: embeddings, norms, media, and which template holds which."""
    media = np.empty(0) if sets.media is None else sets.media
    return arrays_digest(sets.embeddings, sets.norms, media, sets.rows, sets.starts)


def _answers(metrics: Metrics, far: float) -> bool:
    """Whether quality is asked about at a FAR: not below the one wanted, and the pairs allow it."""
    return far >= _QUALITY_FAR and metrics[f"tar@far={far_name(far)}"] is not None


def _paired(results: Results, drawn: dict[str, dict[str, np.ndarray]], ours: str, theirs: str) -> Metrics:
    """Differences of the figures that both have, with intervals on the same draws."""
    metrics: Metrics = {}
    for figure, values in drawn[ours].items():
        if "threshold" in figure:  # of two methods they say nothing about each other
            continue
        kind = "verification" if figure in results["verification"][ours] else "identification"
        pair = [results[kind][name].get(figure) for name in (ours, theirs)]
        difference = values - drawn[theirs][figure]
        if None not in pair and np.isfinite(difference).any():
            metrics |= with_intervals({figure: pair[0] - pair[1]}, {figure: difference})
    return metrics


def require_backbone(protocol: Protocol | FeatureTable, dim: int, backbone: str) -> None:
    """Raises InputError unless embeddings can be of the backbone the model was trained on.

    Args:
      protocol: whose embeddings.
      dim: width of the model's embeddings; 0 for any.
      backbone: digest of the backbone behind them; empty when not known.
    """
    if dim and protocol.dim != dim:
        raise InputError(
            f"{protocol.name}: embeddings are {protocol.dim} wide but the model takes {dim}; "
            "extract both with one backbone"
        )
    if backbone and protocol.backbone and backbone != protocol.backbone:
        raise InputError(
            f"{protocol.name}: its embeddings are of the backbone {protocol.backbone}, the model's of "
            f"{backbone}; extract both with one backbone"
        )


def verification_metrics(
    scores: np.ndarray,
    pairs: Pairs,
    subjects: np.ndarray,
    convention: str = "conservative",
) -> Metrics:
    """All figures of one method: counts, EER, area under the curve, and TAR at each FAR target.

    Args:
      scores: [P] of the pairs.
      pairs: P pairs.
      subjects: [T].
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
    metrics["eer"] = equal_error_rate(scores, pairs.same)
    metrics["auc"] = area_under_curve(scores, pairs.same)
    for point in CONVENTIONS[convention](scores, pairs.same):
        name = far_name(point.far)
        metrics[f"tar@far={name}"] = point.tar
        metrics[f"achieved_far@far={name}"] = point.achieved_far
        metrics[f"threshold@far={name}"] = point.threshold
    return metrics


def validation_tar(descriptors: Descriptors, pairs: Pairs, far: float) -> float:
    """TAR at one FAR, for choosing a checkpoint on held-out people."""
    (point,) = operating_points(pair_scores(descriptors.vectors, pairs), pairs.same, (far,))
    return point.tar
