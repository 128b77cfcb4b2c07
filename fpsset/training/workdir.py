"""What a workdir remembers beside checkpoints: whose it is, and the metrics."""

import json
import math
import pathlib

from ml_collections import ConfigDict

from fpsset.errors import InputError
from fpsset.files import replacing, write_json

# What may change between two runs in one workdir: how far and how often, not what is trained.
_FREE = frozenset(
    """mode weights steps log_every eval_every
    data.train data.eval data.eval_features data.pairs data.protocol data.eval_people data.threads
    backbone.weights profile tensorboard compilation_cache checkpoints
    evaluation.convention evaluation.faces_per_batch evaluation.packed evaluation.fps_gamma
    evaluation.pooling evaluation.resamples""".split()
)
# Fields of later versions, and what was trained before there were such.
_BEFORE = {"model.by_media": False}


class MetricsLog:
    """metrics.jsonl; lines of steps that a resumed run does again are dropped first.

    Use as a context manager.
    """

    def __init__(self, path: pathlib.Path | None, done: int):
        """Opens `path` for appending after step `done`; without one nothing is written."""
        self._file = None
        if path is None:
            return
        lines = path.read_text().splitlines() if path.is_file() else []
        kept = [line for line in lines if _step(line) <= done]
        with replacing(path) as beside:
            beside.write_text("".join(line + "\n" for line in kept))
        self._file = path.open("a")

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_) -> None:
        if self._file:
            self._file.close()

    def write(self, step: int, **values) -> None:
        """A line of numbers about a step."""
        if not self._file:
            return
        fields = {"step": step, **{name: float(value) for name, value in values.items()}}
        try:
            self._file.write(json.dumps(fields) + "\n")
            self._file.flush()
        except OSError as error:  # of a full disk, which does not say where
            raise OSError(error.errno, error.strerror, self._file.name) from error


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
            theirs = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: cannot be read, but there are checkpoints; give another --workdir"
            ) from error
        for key, value in ours.items():
            if not free(key) and theirs.get(key, _BEFORE.get(key)) != value:
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


def _holds_checkpoints(workdir: pathlib.Path) -> bool:
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(entry.name.isdigit() for entry in folder.iterdir())


def _step(line: str) -> float:
    """The step of a line of metrics; infinite for one cut short."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf


def flat_config(tree: dict, prefix: str = "") -> dict:
    """Fields by their dotted names."""
    flat = {}
    for key, value in tree.items():
        flat |= flat_config(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
