"""A trace of a few training steps."""

import pathlib
from contextlib import AbstractContextManager, nullcontext

import jax


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
