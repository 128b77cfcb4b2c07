"""Evaluates a model and the plain poolings on a protocol: 1:1, and 1:N if it has galleries."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from fpsset.evaluation.identification import (
    identification_metrics,
    match_curve,
    open_set_curve,
    search_galleries,
)
from fpsset.evaluation.metric_names import comparable_figures
from fpsset.evaluation.pooling_protocols import pool_by
from fpsset.evaluation.protocols import Protocol, faces_fingerprint, protocol_fingerprint, require_backbone
from fpsset.evaluation.resampling import Estimate, SubjectDraws
from fpsset.evaluation.results import Evaluation, Verification
from fpsset.evaluation.scoring import PairScorer, pair_scores
from fpsset.evaluation.strata import Strata
from fpsset.evaluation.verification import FARS, Pairs, operating_points, roc, verification_metrics
from fpsset.evaluation.verification_draws import VerificationDraws
from fpsset.inference.aggregator import SetAggregator
from fpsset.inference.descriptors import Descriptors, describe, describe_one
from fpsset.models.pooling import baselines
from fpsset.ops.metric import DEFAULT_GAMMA
from fpsset.runtime.digests import arrays_digest

_OURS = "fpsset"
_STRATA_FAR = 1e-3  # or the lowest above it that the pairs allow


def evaluate(
    aggregator: SetAggregator,
    protocol: Protocol,
    fps_gamma: float = DEFAULT_GAMMA,
    resamples: int = 200,
    faces_per_batch: int = 8192,
    convention: str = "conservative",
    pooling: str = "",
    seed: int = 0,
    packed: bool = False,
    rivals: Mapping[str, SetAggregator] = MappingProxyType({}),
) -> Evaluation:
    """Evaluates the baselines and the model, the method 'fpsset', on the same draws of the subjects.

    Args:
      aggregator: the trained model.
      protocol: templates, pairs and galleries.
      fps_gamma: exponent of the norm in the baseline 'fps'.
      resamples: draws of the subjects for 95% intervals; 0 for none.
      faces_per_batch: faces per batch, padding included.
      convention: a name of `CONVENTIONS`.
      pooling: of one more method, which is named after it; see `pool_by`. Empty for none.
      seed: of the draws.
      packed: let small sets share rows of a batch; see `batching.batches`.
      rivals: further models by their methods' names, for embeddings of the same backbone.

    Raises:
      InputError: embeddings of another backbone than the model's.
    """
    require_backbone(protocol, aggregator.dim, aggregator.backbone)
    sets = aggregator.scaled(protocol.sets)
    models = {**baselines(aggregator.module.coreset_size, fps_gamma), _OURS: aggregator.module}
    options = {"faces_per_batch": faces_per_batch, "packed": packed}
    described = describe(models, {_OURS: aggregator.variables}, sets, show=True, **options)
    others = {
        name: describe_one(rival.module, rival.variables, rival.scaled(protocol.sets), **options)
        for name, rival in rivals.items()
    }
    ours = described.pop(_OURS)
    described = {**described, **others, _OURS: ours}
    if pooling:
        model, pooled = pool_by(pooling, protocol.sets, protocol.score, protocol.flipped, protocol.name)
        described = {pooling: describe_one(model, {}, pooled, **options), **described}

    subjects, pairs, search = protocol.subjects, protocol.pairs, protocol.search
    draws = SubjectDraws(subjects, resamples, seed)
    score, draw_pairs = PairScorer(pairs), VerificationDraws(pairs, draws, convention)
    by_stratum = Strata(protocol.sets, pairs, draws)
    verification, identification, strata, comparable = {}, {}, {}, {}
    curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {"roc": {}}
    for method, descriptors in described.items():
        scores = score(descriptors.vectors)
        verified = verification_metrics(scores, pairs, subjects, convention, draw_pairs(scores))
        verification[method], curves["roc"][method] = verified, roc(scores, pairs.same)
        far = _strata_far(verified)
        if far:
            threshold = verified.points[far].threshold.value
            strata[method], by_norm = by_stratum(scores, far, threshold, descriptors.norms)
            for kind, curve in by_norm.items():
                curves.setdefault(kind, {})[method] = curve
        if search:
            found = search_galleries(descriptors.vectors, search)
            weights = draws.weights[:, draws.codes[search.probes.positions]]
            identification[method] = identification_metrics(found, weights)
            curves.setdefault("cmc", {})[method] = match_curve(found)
            open_set = open_set_curve(found)
            if len(open_set[0]):
                curves.setdefault("dir", {})[method] = open_set
        comparable[method] = comparable_figures(verified, identification.get(method))

    paired = {
        f"{_OURS} - {method}": _differences(comparable[_OURS], others)
        for method, others in comparable.items()
        if len(draws) and method != _OURS
    }
    fingerprints = {
        "model": aggregator.digest,
        "backbone": protocol.backbone or aggregator.backbone,
        "training faces": aggregator.train_fingerprint,
        "faces": faces_fingerprint(protocol.sets),
        "protocol": protocol_fingerprint(subjects, protocol.sets.sizes(), pairs, search, convention),
        "draws": arrays_digest(draws.weights),
    }
    return Evaluation(
        verification, identification, strata, paired, curves, fingerprints, len(draws), draws.seed
    )


def validation_tar(descriptors: Descriptors, pairs: Pairs, far: float) -> float:
    """TAR at one FAR, for choosing a checkpoint on held-out people."""
    (point,) = operating_points(pair_scores(descriptors.vectors, pairs), pairs.same, (far,))
    return point.tar


def _strata_far(found: Verification) -> float | None:
    """The lowest FAR from `_STRATA_FAR` up that has a TAR."""
    fars = (far for far in reversed(FARS) if far >= _STRATA_FAR)
    return next((far for far in fars if found.points[far].tar.value is not None), None)


def _differences(ours: dict[str, Estimate], theirs: dict[str, Estimate]) -> dict[str, Estimate]:
    """Paired differences of the figures that both methods have, with draws."""
    both = {
        name: ours[name] - theirs[name]
        for name in ours
        if ours[name].value is not None and theirs[name].value is not None
    }
    return {name: difference for name, difference in both.items() if difference.interval}
