"""Whose a workdir is: the configuration that its checkpoints belong to."""

import json
import pathlib

from ml_collections import ConfigDict

from fpsset.errors import InputError
from fpsset.runtime.files import write_json

# What may change between two runs in one workdir: how far and how often, not what is trained.
_FREE = frozenset(
    """mode weights steps log_every eval_every
    data.train data.eval data.eval_features data.pairs data.protocol data.eval_people data.threads
    backbone.weights backbone.batch_size profile tensorboard compilation_cache checkpoints
    evaluation.convention evaluation.faces_per_batch evaluation.packed evaluation.fps_gamma
    evaluation.pooling evaluation.resamples evaluation.seed""".split()
)
# Fields that 0.1 lacked, with what it did.
_ADDED = {"model.by_media": False}
# Fields that 0.1 named otherwise.
_RENAMED = {"model.start": "model.init", "head.start": "head.init"}


def claim_workdir(workdir: pathlib.Path, config: ConfigDict, fingerprint: str) -> None:
    """Writes config.json, or checks that the workdir's own asks for the same training.

    Args:
      workdir: of the run; where its checkpoints go.
      config: of the run.
      fingerprint: of the training faces; they may have moved, their content may not differ.

    Raises:
      InputError: the workdir holds another configuration's checkpoints.
    """
    path = workdir / "config.json"
    ours = {"training faces": fingerprint, **flat_config(config.to_dict())}
    ours = json.loads(json.dumps(ours))
    scheduled = any(len(set(config.model[field])) > 1 for field in ("score_scale", "temperature"))

    def free(key: str) -> bool:
        # A schedule stretches over the steps, so where there is one they are part of the training.
        return key in _FREE and not (key == "steps" and scheduled)

    if _holds_checkpoints(workdir):
        try:
            theirs = _of_today(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: cannot be read, but there are checkpoints; give another --workdir"
            ) from error
        for key, value in ours.items():
            if not free(key) and theirs.get(key, _ADDED.get(key)) != value:
                raise InputError(
                    f"{workdir}: holds another config's checkpoints ({key} {theirs.get(key)!r}, "
                    f"now {value!r}); give another --workdir"
                )
    try:
        write_json(path, ours)
    except OSError as error:
        raise InputError(
            f"{workdir}: cannot be written to ({error.strerror}); give another --workdir"
        ) from error


def _of_today(fields: dict) -> dict:
    """A config.json in today's names and values, whichever version wrote it."""
    fields = {_RENAMED.get(key, key): value for key, value in fields.items()}
    if fields.get("model.init") == "faces":
        fields["model.init"] = "closed_form"
    if fields.get("data.source") == "files":  # the backbone said what data.train held
        fields["data.source"] = "images" if fields.get("backbone.weights") else "features"
    return fields


def _holds_checkpoints(workdir: pathlib.Path) -> bool:
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(entry.name.isdigit() for entry in folder.iterdir())


def flat_config(tree: dict, prefix: str = "") -> dict:
    """Fields by their dotted names."""
    flat = {}
    for key, value in tree.items():
        flat |= flat_config(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
