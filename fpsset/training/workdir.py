"""A workdir belongs to one configuration: config.json keeps runs from mixing their checkpoints."""

import json
import pathlib

from ml_collections import ConfigDict

from fpsset.errors import InputError
from fpsset.runtime.files import read_json, write_json

# Fields that may change between two runs in one workdir, because they do not affect what is trained.
_MAY_CHANGE = frozenset(
    """mode weights steps log_every eval_every recipe.epochs
    data.train data.eval data.eval_features data.pairs data.protocol data.eval_people data.threads
    backbone.weights backbone.batch_size profile tensorboard compilation_cache checkpoints
    evaluation.convention evaluation.faces_per_batch evaluation.packed evaluation.fps_gamma
    evaluation.pooling evaluation.resamples evaluation.seed""".split()
)
# Fields added after the first config.json was written, with the behaviour before them.
_ADDED = {
    "model.by_media": False,
    "model.name": "face_coreset_net",
    "head.t_alpha": 0.01,
    "data.dtype": "float32",
    **{"recipe.epoch": 1.0, "recipe.milestones": [], "recipe.draws": "people", "recipe.sizes": "template"},
    **{"recipe.statistics": "batch", "recipe.group": 20, "recipe.clips": "uniform"},
    **{"recipe.variation": "clip", "recipe.channels": "rgb", "recipe.operations": "merged"},
}
# Fields of 0.1 that have new names.
_RENAMED = {"model.start": "model.init", "head.start": "head.init"}


def claim_workdir(workdir: pathlib.Path, config: ConfigDict, fingerprint: str) -> None:
    """Writes config.json; if the workdir holds checkpoints, first checks that they are of the same training.

    Args:
      workdir: folder of checkpoints/.
      config: of the run.
      fingerprint: of the training faces: their files may have moved, but their content must be the same.

    Raises:
      InputError: the workdir holds checkpoints of another configuration, or cannot be written to.
    """
    path = workdir / "config.json"
    ours = {"training faces": fingerprint, **flat_config(config.to_dict())}
    ours = json.loads(json.dumps(ours))
    scheduled = any(len(set(config.model[field])) > 1 for field in ("score_scale", "temperature"))

    def may_change(key: str) -> bool:
        # A schedule runs over all steps, so their number then affects the training.
        return key in _MAY_CHANGE and not (key == "steps" and scheduled)

    if _holds_checkpoints(workdir):
        fix = "it says what the checkpoints beside it are of: restore it, or give another --workdir"
        theirs = _with_current_names(read_json(path, fix))
        for key, value in ours.items():
            kept = theirs.get(key, _ADDED.get(key))
            if not may_change(key) and kept != value:
                raise InputError(
                    f"{workdir}: holds another config's checkpoints ({key} {kept!r}, "
                    f"now {value!r}); restore that value, or give another --workdir"
                )
    try:
        write_json(path, ours)
    except OSError as error:
        raise InputError(
            f"{workdir}: cannot be written to ({error.strerror}); give another --workdir"
        ) from error


def _with_current_names(fields: dict) -> dict:
    """Translates a config.json of any earlier version into current names and values."""
    fields = {_RENAMED.get(key, key): value for key, value in fields.items()}
    if fields.get("model.init") == "faces":
        fields["model.init"] = "closed_form"
    if fields.get("data.source") == "files":  # 0.1 trained on images wherever a backbone was given
        fields["data.source"] = "images" if fields.get("backbone.weights") else "features"
    return fields


def _holds_checkpoints(workdir: pathlib.Path) -> bool:
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(entry.name.isdigit() for entry in folder.iterdir())


def flat_config(tree: dict, prefix: str = "") -> dict:
    """A nested dict as a flat one, with dotted keys."""
    flat = {}
    for key, value in tree.items():
        flat |= flat_config(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
