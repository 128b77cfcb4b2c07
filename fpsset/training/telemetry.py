"""A run's telemetry: metrics.jsonl, TensorBoard files (without TensorFlow) and profiler traces."""

import json
import math
import pathlib
import shutil
from contextlib import AbstractContextManager, ExitStack, nullcontext

import jax
import numpy as np
from ml_collections import ConfigDict

from fpsset.errors import InputError
from fpsset.face_set import RaggedSets
from fpsset.inference.descriptors import Descriptors
from fpsset.runtime import hosts
from fpsset.runtime.files import parse_json, replacing
from fpsset.runtime.progress import StepProgress

_PROJECTED = 2000  # descriptors in the projector


class Telemetry:
    """Everything that a run records about itself; only the first process writes. Use as a context manager."""

    def __init__(self, config: ConfigDict, workdir: pathlib.Path, done: int):
        """Opens what `config` asks for, to continue after step `done`.

        Raises:
          InputError: tensorboardX is missing.
        """
        first = hosts.is_first()
        with ExitStack() as stack:
            self._log = stack.enter_context(MetricsLog(workdir / "metrics.jsonl" if first else None, done))
            folder = workdir / "tensorboard" if first and config.tensorboard else None
            self._board = stack.enter_context(Board(folder, done))
            self._trace = stack.enter_context(StepTrace(config.profile if first else "", workdir / "profile"))
            self._stack = stack.pop_all()

    def __enter__(self) -> "Telemetry":
        return self

    def __exit__(self, *error) -> None:
        self._stack.__exit__(*error)

    def trace_step(self, step: int) -> AbstractContextManager:
        """A context for one training step; see `StepTrace.step`."""
        return self._trace.step(step)

    def write(self, step: int, **values) -> None:
        """Records numbers about a step."""
        self._log.write(step, **values)
        self._board.write(step, **values)

    def show_validation(
        self, step: int, subjects: np.ndarray, sets: RaggedSets, described: Descriptors
    ) -> None:
        """Shows the held-out people; see `Board.validation`."""
        self._board.validation(step, subjects, sets, described)


class MetricsLog:
    """Writer of metrics.jsonl. Use as a context manager."""

    def __init__(self, path: pathlib.Path | None, done: int):
        """Drops lines after step `done`, which a resumed run repeats, and appends; None writes nothing."""
        self._file = None
        if path is None:
            return
        content = path.read_bytes() if path.is_file() else b""
        *lines, _ = content.split(b"\n")  # a run that is killed leaves its last line unfinished
        steps = [_step(line) for line in lines]
        if damaged := sum(step is None for step in steps):
            StepProgress.say(f"warning: {path}: left out {damaged} damaged lines")
        with replacing(path) as beside:
            pairs = zip(lines, steps, strict=True)
            beside.write_bytes(b"".join(line + b"\n" for line, s in pairs if s is not None and s <= done))
        self._file = path.open("a")

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_) -> None:
        if self._file:
            self._file.close()

    def write(self, step: int, **values) -> None:
        """Appends a line with the step and the values; null for those that are not finite.

        Raises:
          InputError: the disk is full.
        """
        if not self._file:
            return
        numbers = {name: float(value) for name, value in values.items()}
        fields = {"step": step} | {name: x if math.isfinite(x) else None for name, x in numbers.items()}
        try:
            self._file.write(json.dumps(fields) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"{self._file.name}: could not be written ({error.strerror}); the checkpoints are kept; "
                "free some space and run the same command to continue"
            ) from error


class Board:
    """TensorBoard files of a run: scalars, histograms and descriptors in the embedding projector.

    Use as a context manager.
    """

    def __init__(self, folder: pathlib.Path | None, done: int):
        """Opens `folder` to continue after step `done`; events of later steps from before are hidden.

        Args:
          folder: of the event files; None writes nothing.
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
        """Writes scalars, tagged by `tag_of` of their names."""
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(tag_of(name), float(value), step)

    def validation(self, step: int, subjects: np.ndarray, sets: RaggedSets, described: Descriptors) -> None:
        """Writes histograms of norms and picks, and replaces the projector's descriptors.

        Args:
          step: training steps done.
          subjects: [T] int, the person of each set.
          sets: T sets of held-out people, norms scaled.
          described: descriptors and coresets of the sets.
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
        self._project(subjects, np.diff(sets.starts), described)

    def _project(self, subjects: np.ndarray, sizes: np.ndarray, described: Descriptors) -> None:
        # add_embedding appends: without this the projector would keep the descriptors of every validation.
        (self._folder / "projector_config.pbtxt").unlink(missing_ok=True)
        shutil.rmtree(self._folder / "00000", ignore_errors=True)
        norms = [f"{norm:.3f}" for norm in described.norms]
        self._writer.add_embedding(
            described.vectors[:_PROJECTED],
            list(zip(subjects, sizes, norms, strict=True))[:_PROJECTED],
            tag="descriptors",
            metadata_header=["subject", "faces", "norm"],
        )


def selection_spread(embeddings: np.ndarray, coreset: np.ndarray) -> np.ndarray:
    """Mean distance (1 - cos) / 2 over the pairs of picks of each set.

    Args:
      embeddings: [M, D] unit rows.
      coreset: [T, K] int rows of `embeddings`, -1 beyond a set's size.

    Returns:
      [T] in [0, 1]; NaN for sets with a single pick.
    """
    valid = coreset >= 0
    total = (embeddings[np.maximum(coreset, 0)] * valid[..., None]).sum(axis=1, dtype=np.float64)
    count = valid.sum(axis=1)
    pairs = count * (count - 1)
    # The squared norm of the sum counts each pick once with itself and each pair twice.
    cosines = (total**2).sum(axis=1) - count
    return (1 - cosines / np.where(pairs, pairs, np.nan)) / 2


def tag_of(name: str) -> str:
    """A metric's name in characters that TensorBoard allows: 'tar@far=1e-3' gives 'tar_at_far_1e-3'."""
    return name.replace("@", "_at_").replace("=", "_")


def _writer(folder: pathlib.Path, done: int):
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise InputError(
            "config.tensorboard needs tensorboardX; pip install 'fpsset[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder), purge_step=done + 1 if done else None)


class StepTrace(AbstractContextManager):
    """Profiles a range of steps, for TensorBoard and Perfetto."""

    def __init__(self, steps: str, folder: pathlib.Path):
        """Traces the steps of 'START:STOP', both included, to `folder`; an empty string traces none."""
        self._first, self._last = map(int, (steps or "0:0").split(":"))
        self._folder, self._on = folder, False

    def step(self, step: int) -> AbstractContextManager:
        """A context for one step, which starts or ends the trace where due and annotates the step in it."""
        if self._on and step > self._last:
            self._stop()
        if self._first and not self._on and step == self._first:
            # Perfetto opens its own file, TensorBoard the other one.
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._on = True
        return jax.profiler.StepTraceAnnotation("train", step_num=step) if self._on else nullcontext()

    def _stop(self) -> None:
        jax.effects_barrier()
        jax.profiler.stop_trace()
        self._on = False

    def __exit__(self, *error) -> None:
        """Ends a trace that is still running, e.g. of an interrupted run."""
        if self._on:
            self._stop()


def _step(line: bytes) -> int | None:
    """The step of a line of metrics.jsonl; None for a damaged one."""
    try:
        step = parse_json(line, "", "").get("step")
    except InputError:
        return None
    return step if type(step) is int else None
