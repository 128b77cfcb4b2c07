"""What a run writes to be watched by: metrics.jsonl, TensorBoard without TensorFlow, traces of steps."""

import json
import math
import pathlib
from contextlib import AbstractContextManager, nullcontext

import jax
import numpy as np

from fpsset.errors import InputError
from fpsset.face_set import RaggedSets
from fpsset.inference.descriptors import Descriptors
from fpsset.runtime.files import replacing

_SHOWN = 2000  # descriptors in the projector


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


class Board:
    """Event files of a run, with scalars and histograms, and descriptors for the embedding projector.

    Use as a context manager.
    """

    def __init__(self, folder: pathlib.Path | None, done: int):
        """Opens `folder` after step `done`; what a resumed run does again hides what was there.

        Args:
          folder: of the event files; None shows nothing.
          done: steps done before.

        Raises:
          InputError: tensorboardX is missing.
        """
        self._folder = folder
        self._writer = None if folder is None else _writer(folder, done)

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_) -> None:
        if self._writer:
            self._writer.close()

    def write(self, step: int, **values) -> None:
        """Numbers about a step, under their names as `tag_of` makes them."""
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(tag_of(name), float(value), step)

    def validation(self, step: int, subjects: np.ndarray, sets: RaggedSets, described: Descriptors) -> None:
        """What the model makes of the held-out people; the projector shows the latest.

        Args:
          step: of training.
          subjects: [T] int, whom each set shows.
          sets: T sets, with scaled norms.
          described: of the sets, with their coresets.
        """
        if not self._writer:
            return
        spread = selection_spread(sets.embeddings, described.coreset)
        spread = spread[np.isfinite(spread)]
        histograms = {
            "faces/norm": sets.norms,
            "picks/norm": sets.norms[described.coreset[described.coreset >= 0]],
            "descriptors/norm": described.norms,
            "picks/spread": spread,
        }
        for name, values in histograms.items():
            if len(values):
                self._writer.add_histogram(name, values, step)
        if len(spread):
            self._writer.add_scalar("picks/mean_spread", spread.mean(), step)
        self._writer.flush()
        _write_projector(self._folder, subjects[:_SHOWN], np.diff(sets.starts)[:_SHOWN], described)


def selection_spread(embeddings: np.ndarray, coreset: np.ndarray) -> np.ndarray:
    """How far the picks of each set lie apart: the mean of (1 - cos) / 2 over their pairs.

    Args:
      embeddings: [M, D] unit rows.
      coreset: [T, K] int rows of them, -1 beyond a set's size.

    Returns:
      [T] in [0, 1]; NaN for sets of one pick.
    """
    valid = coreset >= 0
    total = (embeddings[np.maximum(coreset, 0)] * valid[..., None]).sum(axis=1, dtype=np.float64)
    count = valid.sum(axis=1)
    pairs = count * (count - 1)
    # The squared length of the sum holds each pick once with itself and twice with each other one.
    cosines = (total**2).sum(axis=1) - count
    return (1 - cosines / np.where(pairs, pairs, np.nan)) / 2


def tag_of(name: str) -> str:
    """A metric's name in the letters of TensorBoard's tags: 'tar@far=1e-3' as 'tar_at_far_1e-3'."""
    return name.replace("@", "_at_").replace("=", "_")


def _writer(folder: pathlib.Path, done: int):
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise InputError(
            "config.tensorboard needs tensorboardX; pip install 'fpsset[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)


def _write_projector(
    folder: pathlib.Path, subjects: np.ndarray, sizes: np.ndarray, described: Descriptors
) -> None:
    """The files of TensorBoard's projector: vectors, what is known of each, and where both are."""
    known = zip(subjects, sizes, described.norms, strict=False)
    lines = ["subject\tfaces\tnorm", *(f"{subject}\t{size}\t{norm:.3f}" for subject, size, norm in known)]
    fields = {"tensor_name": "descriptors", "tensor_path": "descriptors.tsv", "metadata_path": "sets.tsv"}
    config = "".join(f'  {name}: "{value}"\n' for name, value in fields.items())
    with replacing(folder / "descriptors.tsv") as beside:
        np.savetxt(beside, described.vectors[: len(subjects)], "%.6g", "\t")
    with replacing(folder / "sets.tsv") as beside:
        beside.write_text("\n".join(lines) + "\n")
    with replacing(folder / "projector_config.pbtxt") as beside:
        beside.write_text(f"embeddings {{\n{config}}}\n")


class StepTrace(AbstractContextManager):
    """Traces the steps START to STOP of a run, as TensorBoard and Perfetto read it."""

    def __init__(self, steps: str, folder: pathlib.Path):
        """Of 'START:STOP', written under `folder`; an empty string traces nothing."""
        self._first, self._last = map(int, (steps or "0:0").split(":"))
        self._folder, self._on = folder, False

    def step(self, step: int) -> AbstractContextManager:
        """A context for one step: starts and stops the trace as asked, and names the step in it."""
        if self._on and step > self._last:
            self._stop()
        if self._first and not self._on and step == self._first:
            # Perfetto's own file too: its site opens that, and TensorBoard the other.
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._on = True
        return jax.profiler.StepTraceAnnotation("train", step_num=step) if self._on else nullcontext()

    def _stop(self) -> None:
        jax.effects_barrier()
        jax.profiler.stop_trace()
        self._on = False

    def __exit__(self, *error) -> None:
        """Writes a trace that is still running, as of an interrupted run."""
        if self._on:
            self._stop()


def _step(line: str) -> float:
    """The step of a line of metrics; infinite for one cut short."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
