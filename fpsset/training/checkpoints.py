"""Checkpoints of a run: state, data position and what is needed to use the model without the run."""

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Iterator

import grain
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from fpsset.errors import InputError, first_line
from fpsset.runtime.files import as_path
from fpsset.runtime.progress import StepProgress
from fpsset.training.step import TrainState
from fpsset.weights.cards import AggregatorCard
from fpsset.weights.trained import FORMAT, SCORE, ignore_late_ends, score_of

_ASIDE = "damaged_checkpoints"


class Checkpoints:
    """The checkpoints under a workdir: the two newest and the best by validation are kept.

    All processes of a run call the same methods at the same steps. Use as a context manager; leaving it
    waits for the last save.

    Raises:
      InputError: a checkpoint cannot be written, as on a full disk; those before it stay.
    """

    def __init__(self, workdir: str | os.PathLike):
        """Opens `workdir`/checkpoints, which is made if missing; what a killed save left is removed."""
        ignore_late_ends()
        self._folder = as_path(workdir, absolute=True) / "checkpoints"
        policies = ocp.checkpoint_managers
        best = policies.BestN(get_metric_fn=score_of, n=1, keep_checkpoints_without_metrics=False)
        # Two, so that there is one to go back to where the newest turns out damaged.
        keep = policies.AnyPreservationPolicy([policies.LatestN(n=2), best])
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=keep, best_fn=score_of, cleanup_tmp_directories=True
            ),
        )

    def __enter__(self) -> "Checkpoints":
        logging.getLogger("absl").addFilter(_is_not_of_orbax)
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            with self._writing():
                self._manager.close()
        except InputError:
            if error is None:
                raise
        finally:
            logging.getLogger("absl").removeFilter(_is_not_of_orbax)

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(
        self, state: TrainState, batches: grain.DatasetIterator, card: AggregatorCard, score: float | None
    ) -> None:
        """Saves a step, unless it is there already.

        Args:
          state: after the step.
          batches: iterator that has handed out the step's batch.
          card: of the model.
          score: on held-out people; None for a save between validations.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=ocp.args.JsonSave({"batches": batches.get_state(), "sums": _sums(state)}),
            card=ocp.args.JsonSave({"format": FORMAT, **dataclasses.asdict(card)}),
        )
        with self._writing():
            self._manager.save(step, args=items, metrics=None if score is None else {SCORE: score})

    def restore(self, state: TrainState, batches: grain.DatasetIterator) -> TrainState:
        """The newest checkpoint's state, and `batches` moved to its position; `state` where there is none.

        A checkpoint that cannot be read, or holds other numbers than were saved, is named on stderr and
        moved aside, and the one before it is taken. The kernel may have other padding than is wanted.

        Args:
          state: a fresh state, for shapes, types and places.
          batches: a fresh iterator over the same data.

        Raises:
          InputError: there are checkpoints, but none that can be read, or of an earlier version.
        """
        damaged = []
        while (step := self.latest_step()) is not None:
            if any((self._folder / str(step) / "data").glob("process_*")):  # of format 1
                raise InputError(
                    f"{self._folder / str(step)}: an earlier version of fpsset wrote it; it can be used "
                    "(--config.mode=eval), but its run cannot go on: give another --workdir"
                )
            try:
                restored, position = self._read(step, state)
            except Exception as error:  # whatever damage makes Orbax raise
                damaged.append(step)
                self._put_aside(step, first_line(error))
                continue
            batches.set_state(position)
            return restored
        if damaged:
            raise InputError(
                f"{self._folder}: no checkpoint can be read (steps {damaged}, now in {_ASIDE}/); "
                "give another --workdir"
            )
        return state

    def _read(self, step: int, state: TrainState) -> tuple[TrainState, dict]:
        wanted = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        restored = self._manager.restore(
            step,
            # Not strict: a kernel is padded with zeros, or loses columns of zeros.
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(wanted, strict=False), data=ocp.args.JsonRestore()
            ),
        )
        if _sums(restored.state) != restored.data["sums"]:
            raise ValueError("its numbers are not those that were saved")
        return restored.state, restored.data["batches"]

    def _put_aside(self, step: int, problem: str) -> None:
        StepProgress.say(
            f"warning: {self._folder / str(step)}: cannot be read ({problem}); moved to {_ASIDE}/, "
            "and the checkpoint before it is used"
        )
        if jax.process_index() == 0:
            aside = self._folder.parent / _ASIDE
            aside.mkdir(exist_ok=True)
            (self._folder / str(step)).rename(aside / f"{step}-{time.time_ns()}")
        ocp.multihost.sync_global_processes("fpsset:put_aside")
        self._manager.reload()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Says in one line that a checkpoint could not be written; saves end in the background, later."""
        try:
            yield
        except Exception as error:
            good = [int(path.name) for path in self._folder.iterdir() if path.name.isdigit()]
            raise InputError(
                f"{self._folder}: a checkpoint could not be written ({first_line(error)}); "
                + (f"the last good one is of step {max(good)}" if good else "there is none before it")
                + "; make room, and the same command goes on"
            ) from error


@jax.jit
def _words(state: TrainState) -> jax.Array:
    def words(leaf):
        return jnp.sum(jax.lax.bitcast_convert_type(leaf, jnp.uint32), dtype=jnp.uint32)

    return jnp.stack([words(leaf) for leaf in jax.tree.leaves(state)])


def _sums(state: TrainState) -> list[int]:
    """A sum of the 32-bit words of each array: the same on any devices, and with any padding by zeros."""
    return jax.device_get(_words(state)).tolist()


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    """What fails in its threads is raised here too, and said in one line."""
    return "orbax" not in record.pathname
