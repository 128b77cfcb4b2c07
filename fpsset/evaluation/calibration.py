"""Decision thresholds: calibrated for a target FAR on labelled sets, and kept beside the model."""

import dataclasses
import pathlib

import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.errors import InputError, first_line
from fpsset.evaluation.metric_names import flatten, limit_names
from fpsset.evaluation.protocols import Protocol, faces_fingerprint, require_backbone
from fpsset.evaluation.resampling import NO_DRAWS, Estimate, Interval, SubjectDraws, estimate
from fpsset.evaluation.scoring import pair_scores
from fpsset.evaluation.verification import operating_points
from fpsset.evaluation.verification_draws import VerificationDraws
from fpsset.inference.aggregator import Aggregator
from fpsset.inference.descriptors import describe_one
from fpsset.runtime.digests import SEAL, unsealed
from fpsset.runtime.files import read_json, write_json

_FORMAT = 2  # 1 had no seal
_FIX = "delete it and calibrate again"


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The threshold for one FAR target, and what it was found on.

    Attributes:
      far: the target.
      threshold: a pair is accepted if its cosine is above it.
      tar: at the threshold.
      achieved_far: at the threshold, at most `far`.
      accepted_impostors: impostor pairs above the threshold.
      impostor_pairs, genuine_pairs, subjects: how many there were.
      resamples: draws of the subjects for the intervals; 0 for none.
      resampling_seed: of the draws.
      data: the name of the feature file.
      data_fingerprint: of its faces.
      warning: why the threshold should not be trusted; empty if nothing is known against it.
    """

    far: float
    threshold: Estimate
    tar: Estimate
    achieved_far: float
    accepted_impostors: int
    impostor_pairs: int
    genuine_pairs: int
    subjects: int
    resamples: int
    resampling_seed: int
    data: str
    data_fingerprint: str
    warning: str = ""

    def to_json(self) -> dict:
        """Its entry in thresholds.json."""
        rest = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        figures = {name: rest.pop(name) for name in ("threshold", "tar", "achieved_far", "far")}
        return flatten(figures, ["tar", "threshold"]) | {k: v for k, v in rest.items() if v or k != "warning"}

    @classmethod
    def from_json(cls, entry: dict) -> "Calibration":
        """Reads an entry; raises KeyError, TypeError or ValueError if it is not one."""
        fields = dict(entry)
        for name in ("threshold", "tar"):
            ends = [fields.pop(limit, None) for limit in limit_names(name)]
            fields[name] = Estimate(fields[name], None if None in ends else Interval(*ends))
        found = cls(**fields)
        limits = (*limit_names("threshold"), *limit_names("tar"))
        for name in ("far", "threshold", "tar", "achieved_far", *(name for name in limits if name in entry)):
            number = entry[name]
            if type(number) not in (int, float) or not abs(number) < 1.01:  # cosines may round up
                raise ValueError(f"{name!r} is {number!r}")
        if type(found.impostor_pairs) is not int or type(found.data) is not str or not found.data:
            raise ValueError(f"'impostor_pairs' or 'data' is {found.impostor_pairs!r} or {found.data!r}")
        return found


def calibrate(
    aggregator: Aggregator, protocol: Protocol, far: float, resamples: int = 1000, seed: int = 0
) -> Calibration:
    """Finds the cosine above which pairs are accepted, for a target FAR.

    Args:
      aggregator: the model.
      protocol: labelled templates and their pairs.
      far: target in (0, 1), which the FAR on these pairs does not exceed.
      resamples: draws of the subjects for 95% intervals, which need at least ten known subjects.
      seed: of the draws.

    Raises:
      InputError: embeddings of another backbone, or fewer than 1 / far impostor pairs.
    """
    require_backbone(protocol, aggregator.dim, aggregator.backbone)
    pairs = protocol.pairs
    impostors = int((~pairs.same).sum())
    if far * impostors + 1e-6 < 1:
        raise InputError(
            f"{protocol.name}: {impostors} impostor pairs are too few for a FAR of {far:g}, which needs "
            f"{np.ceil(1 / far):.0f}; add more people, or raise --far"
        )
    sets = aggregator.scaled(protocol.sets)
    vectors = describe_one(aggregator.module, aggregator.variables, sets, show=True).vectors
    scores = pair_scores(vectors, pairs)
    (point,) = operating_points(scores, pairs.same, (far,))
    if not np.isfinite(point.threshold):
        raise InputError(f"--far is {far:g}, which accepts every pair; lower it")
    draws = SubjectDraws(protocol.subjects, resamples, seed)
    drawn = VerificationDraws(pairs, draws)(scores, (far,), area=False)
    return Calibration(
        far=far,
        threshold=estimate(point.threshold, drawn.threshold.get(far, NO_DRAWS)),
        tar=estimate(point.tar, drawn.tar.get(far, NO_DRAWS)),
        achieved_far=point.achieved_far,
        accepted_impostors=round(point.achieved_far * impostors),
        impostor_pairs=impostors,
        genuine_pairs=int(pairs.same.sum()),
        subjects=len(np.unique(protocol.subjects)),
        resamples=len(draws),
        resampling_seed=seed,
        data=pathlib.Path(protocol.name).name,
        data_fingerprint=faces_fingerprint(protocol.sets),
    )


def warning_of(aggregator: Aggregator, table: FeatureTable) -> str:
    """Warns if the model was trained on these faces; empty if not, or if that is not known.

    A model keeps the fingerprint of the feature file it was trained on. Other files with the same faces are
    not recognised.
    """
    if aggregator.train_fingerprint != table.fingerprint():
        return ""
    return (
        f"the model was trained on the faces of {pathlib.Path(table.name).name}; it separates them better "
        "than those of other people, whose error rates will be higher"
    )


def thresholds_file(model: pathlib.Path) -> pathlib.Path:
    """The thresholds.json of a model: in its folder, or beside its file."""
    return model / "thresholds.json" if model.is_dir() else model.with_name(f"{model.name}.thresholds.json")


def save_threshold(path: pathlib.Path, digest: str, found: Calibration) -> None:
    """Adds a threshold to those of the same model at other FARs; another model's are dropped.

    Args:
      path: from `thresholds_file`.
      digest: of the model.
      found: from `calibrate`.

    Raises:
      InputError: the file exists and is not a thresholds file.
    """
    model, kept = _read(path) if path.is_file() else (digest, {})
    kept = (kept if model == digest else {}) | {f"{found.far:g}": found}
    thresholds = {name: calibration.to_json() for name, calibration in kept.items()}
    write_json(path, {"format": _FORMAT, "model": digest, "thresholds": thresholds}, sealed=True)


def read_threshold(path: pathlib.Path, digest: str, far: float | None) -> Calibration:
    """Reads a threshold that `save_threshold` wrote.

    Args:
      path: from `thresholds_file`.
      digest: of the model to use it with.
      far: which; None if there is only one.

    Raises:
      InputError: there is none, or it is another model's.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; calibrate a threshold: fpsset calibrate MODEL FEATURES")
    model, thresholds = _read(path)
    if model != digest:
        raise InputError(f"{path}: its thresholds are for the model {model}, not {digest}; calibrate again")
    if far is None and len(thresholds) == 1:
        return next(iter(thresholds.values()))
    if far is None or f"{far:g}" not in thresholds:
        held = "several thresholds" if far is None else f"no threshold for a FAR of {far:g}"
        raise InputError(f"{path}: holds {held}; give --far as one of {', '.join(thresholds)}, or calibrate")
    return thresholds[f"{far:g}"]


def _read(path: pathlib.Path) -> tuple[str, dict[str, Calibration]]:
    """(Digest of the model, {FAR: calibration})."""
    held = read_json(path, _FIX)
    if held.get("format") != 1 or SEAL in held:
        held = unsealed(held, str(path), _FIX)
    if held.get("format") not in (1, _FORMAT):
        raise InputError(f"{path}: was written by a later version of fpsset; upgrade to it, or {_FIX}")
    try:
        if held.keys() != {"format", "model", "thresholds"}:
            raise ValueError(f"its fields are {', '.join(held)}")
        found = {far: Calibration.from_json(entry) for far, entry in held["thresholds"].items()}
        if wrong := [far for far, calibration in found.items() if far != f"{calibration.far:g}"]:
            raise ValueError(f"{wrong[0]!r} is the name of another FAR")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: holds no thresholds of fpsset ({first_line(error)}); {_FIX}") from error
    return str(held["model"]), found
