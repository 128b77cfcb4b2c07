"""Thresholds for use: picked for a stated FAR on labelled sets, kept beside the model."""

import json
import pathlib

import numpy as np

from fpsset.data.feature_table import UNKNOWN_SUBJECT, FeatureTable
from fpsset.errors import InputError
from fpsset.evaluation.protocols import Protocol, faces_fingerprint, require_backbone
from fpsset.evaluation.resampling import Metrics, SubjectDraws, with_intervals
from fpsset.evaluation.scoring import pair_scores
from fpsset.evaluation.verification import operating_points
from fpsset.evaluation.verification_draws import VerificationDraws
from fpsset.inference.aggregator import Aggregator
from fpsset.inference.descriptors import describe_one
from fpsset.runtime.files import write_json

_FORMAT = 1
_NUMBERS = ("threshold", "far", "achieved_far", "impostor_pairs")


def calibrate(
    aggregator: Aggregator, protocol: Protocol, far: float, resamples: int = 1000, seed: int = 0
) -> Metrics:
    """The threshold above which a model's cosine accepts a pair, for a stated FAR.

    Args:
      aggregator: the model.
      protocol: labelled templates and their pairs.
      far: in (0, 1); the FAR on these pairs does not exceed it.
      resamples: of the subjects, for 95% intervals.
      seed: of the resampling.

    Returns:
      'threshold', 'achieved_far', 'tar', with the ends of intervals where at least ten subjects are known;
      'far', the counts, and the fingerprint of the faces.

    Raises:
      InputError: embeddings of another backbone, or fewer than 1 / far impostor pairs.
    """
    require_backbone(protocol, aggregator.dim, aggregator.backbone)
    pairs = protocol.pairs
    impostors = int((~pairs.same).sum())
    if far * impostors + 1e-6 < 1:
        raise InputError(
            f"{protocol.name}: {impostors} impostor pairs are too few for a FAR of {far:g}, which takes "
            f"{np.ceil(1 / far):.0f}; give more people, or a higher --far"
        )
    sets = aggregator.scaled(protocol.sets)
    vectors = describe_one(aggregator.module, aggregator.variables, sets, show=True).vectors
    scores = pair_scores(vectors, pairs)
    (point,) = operating_points(scores, pairs.same, (far,))
    if not np.isfinite(point.threshold):
        raise InputError(f"--far is {far:g}: every pair would be accepted; give a lower one")
    known = (protocol.subjects != UNKNOWN_SUBJECT).all()
    draws = SubjectDraws(protocol.subjects, resamples if known else 0, seed)
    drawn = VerificationDraws(pairs, draws)(scores, (far,))
    drawn = {name.partition("@")[0]: values for name, values in drawn.items()}
    figures = {"threshold": point.threshold, "tar": point.tar, "achieved_far": point.achieved_far, "far": far}
    return with_intervals(figures, drawn) | {
        "accepted_impostors": round(point.achieved_far * impostors),
        "impostor_pairs": impostors,
        "genuine_pairs": int(pairs.same.sum()),
        "subjects": len(np.unique(protocol.subjects)),
        "resamples": len(draws),
        "resampling_seed": seed,
        "data": pathlib.Path(protocol.name).name,
        "data_fingerprint": faces_fingerprint(protocol.sets),
    }


def warning_of(aggregator: Aggregator, table: FeatureTable) -> str:
    """What speaks against calibrating a model on these faces; empty where nothing is known to.

    A model keeps the fingerprint of the feature file it was trained on. Other files of the same faces are not
    told, nor are faces of a model whose training is not known.
    """
    if aggregator.train_fingerprint != table.fingerprint():
        return ""
    return (
        f"the model was trained on the faces of {pathlib.Path(table.name).name}; it tells them apart better "
        "than other people's, so at this threshold the FAR of others will be higher"
    )


def thresholds_file(model: pathlib.Path) -> pathlib.Path:
    """Where the thresholds of a model lie: in its folder, or beside its file."""
    return model / "thresholds.json" if model.is_dir() else model.with_name(f"{model.name}.thresholds.json")


def save_threshold(path: pathlib.Path, digest: str, found: Metrics) -> None:
    """Keeps a threshold with those of the same model at other FARs; another model's are dropped.

    Args:
      path: as `thresholds_file` names it.
      digest: of the model.
      found: by `calibrate`.
    """
    held = _read(path) if path.is_file() else {}
    kept = held["thresholds"] if held.get("model") == digest else {}
    kept |= {f"{found['far']:g}": found}
    write_json(path, {"format": _FORMAT, "model": digest, "thresholds": kept})


def read_threshold(path: pathlib.Path, digest: str, far: float | None) -> Metrics:
    """A threshold that `save_threshold` kept.

    Args:
      path: as `thresholds_file` names it.
      digest: of the model that is to be used.
      far: which; None where there is only one.

    Raises:
      InputError: there is none, or it is another model's.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; pick a threshold first: fpsset calibrate MODEL FEATURES")
    held = _read(path)
    if held["model"] != digest:
        raise InputError(
            f"{path}: its thresholds are of the model {held['model']}, not of {digest}; calibrate again"
        )
    thresholds = held["thresholds"]
    if far is None and len(thresholds) == 1:
        return next(iter(thresholds.values()))
    if far is None or f"{far:g}" not in thresholds:
        asked = "several thresholds" if far is None else f"no threshold for a FAR of {far:g}"
        raise InputError(f"{path}: holds {asked}; give --far, one of {', '.join(thresholds)}, or calibrate")
    return thresholds[f"{far:g}"]


def _read(path: pathlib.Path) -> dict:
    try:
        held = json.loads(path.read_text())
        thresholds = list(held["thresholds"].values())
        sound = all(isinstance(kept[name], int | float) for kept in thresholds for name in _NUMBERS)
        if held["format"] == _FORMAT and sound and all(kept["data"] for kept in thresholds):
            return {"model": str(held["model"]), "thresholds": held["thresholds"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(f"{path}: holds no thresholds of this version of fpsset; delete it and calibrate again")
