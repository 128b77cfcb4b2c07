"""Checkpoints of a run: its state, its position in the data and the card of its model."""

import contextlib
import os
import pathlib
import time
from collections.abc import Iterator

import grain
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from fpsset.errors import InputError, first_line
from fpsset.runtime import hosts
from fpsset.runtime.digests import seal
from fpsset.runtime.disk import remove_tree
from fpsset.runtime.files import as_path, flush_tree, read_json
from fpsset.runtime.interrupts import stops_held
from fpsset.runtime.progress import StepProgress
from fpsset.training.step import TrainState
from fpsset.weights.cards import AggregatorCard, errors_raised_alone, lone_checkpointer
from fpsset.weights.checkpoint_card import (
    SCORE,
    LaterVersion,
    is_damage,
    params_listing,
    problem_of,
    read_checkpoint_card,
    read_position,
    score_of,
    to_json,
)
from fpsset.weights.trained import silence_late_io_errors

_DAMAGED = "damaged_checkpoints"
_GOOD, _BAD, _UNKNOWN = range(3)  # what a process found out about a checkpoint, the gravest last


class Checkpoints:
    """The checkpoints of a workdir; keeps the two newest and the best by validation.

    All processes of a run must call the same methods at the same steps. Use as a context manager; leaving it
    waits for the last save.

    Raises:
      InputError: a checkpoint cannot be written, e.g. on a full disk; earlier ones stay.
    """

    def __init__(self, workdir: str | os.PathLike):
        """Opens `workdir`/checkpoints, creating it if missing; removes the leftovers of interrupted saves.

        Checkpoints whose card or score is damaged are moved aside, as by `restore`.
        """
        silence_late_io_errors()
        self._folder = as_path(workdir, absolute=True) / "checkpoints"
        self._logs = contextlib.ExitStack()
        self._aside: list[int] = []  # steps, on the first process
        hosts.on_first_process(self._tidy)  # Orbax would stop at any of them
        policies = ocp.checkpoint_managers
        best = policies.BestN(get_metric_fn=score_of, n=1, keep_checkpoints_without_metrics=False)
        # The second newest is there in case the newest turns out to be damaged.
        keep = policies.AnyPreservationPolicy([policies.LatestN(n=2), best])
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=keep,
                best_fn=score_of,
                cleanup_tmp_directories=True,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._flush),
            ),
        )

    def __enter__(self) -> "Checkpoints":
        self._logs.enter_context(errors_raised_alone())
        return self

    @stops_held()
    def __exit__(self, kind, error, trace) -> None:
        try:
            with self._writing():
                self._manager.close()
        except InputError:
            if error is None:
                raise
        finally:
            self._logs.close()

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    @stops_held()
    def save(
        self, state: TrainState, batches: grain.DatasetIterator, card: AggregatorCard, score: float | None
    ) -> None:
        """Saves a step unless it is already saved.

        Args:
          state: after the step.
          batches: iterator that has yielded the step's batch.
          card: of the model.
          score: on held-out people; None for a save between validations.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        sums, params = _checksums(state), state.params["aggregator"]
        first = len(jax.tree.leaves(state.step))  # the parameters follow the step, the aggregator's first
        listing = params_listing(params, sums[first : first + len(jax.tree.leaves(params))])
        with self._writing():
            items = ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=ocp.args.JsonSave(seal({"batches": batches.get_state(), "sums": sums})),
                card=ocp.args.JsonSave(to_json(card, score, listing)),
            )
            self._manager.save(step, args=items, metrics=None if score is None else {SCORE: score})

    def restore(self, like: TrainState, batches: grain.DatasetIterator) -> TrainState | None:
        """Restores the newest checkpoint and moves `batches` to its position.

        A checkpoint that is unreadable or fails its checksums is reported, moved to damaged_checkpoints/, and
        the one before it is used. The saved kernel may be padded for another number of devices.

        Args:
          like: a state of arrays or jax.ShapeDtypeStruct, which gives shapes, dtypes and shardings.
          batches: a fresh iterator over the same data.

        Returns:
          The state; None if there is no checkpoint.

        Raises:
          InputError: no checkpoint can be read, or the newest is of an earlier format.
        """
        damaged = list(self._aside)
        while (step := self.latest_step()) is not None:
            if any((self._folder / str(step) / "data").glob("process_*")):  # of format 1
                raise InputError(
                    f"{self._folder / str(step)}: was written by an earlier version of fpsset; it can be "
                    "evaluated (--config.mode=eval), but not resumed: give another --workdir"
                )
            outcome, error = _GOOD, None
            try:
                restored, position = self._read(step, like)
            except Exception as raised:  # Orbax raises many types for damaged files
                outcome, error = (_BAD if is_damage(raised) else _UNKNOWN), raised
            outcome = hosts.highest(outcome)
            if outcome == _GOOD:
                batches.set_state(position)
                return restored
            problem = first_line(error) if error else "by another process"
            if outcome == _UNKNOWN:
                raise InputError(
                    f"{self._folder / str(step)}: could not be read ({problem}); it may be good, so it "
                    "stays: mend that and run the same command to continue"
                ) from error
            damaged.append(step)
            hosts.on_first_process(lambda step=step, problem=problem: self._move_aside(step, problem))
            self._manager.reload()
        if hosts.highest(len(damaged)):
            raise InputError(
                f"{self._folder}: no checkpoint can be read (steps {damaged}, now in {_DAMAGED}/); "
                "give another --workdir"
            )
        return None

    @stops_held()
    def _read(self, step: int, like: TrainState) -> tuple[TrainState, dict]:
        """The state and the position in the data, checked; without waiting for other processes."""
        path = self._folder / str(step)
        read_checkpoint_card(path)
        position = read_position(path)
        list((path / "state").iterdir())  # Orbax takes a folder that it may not read for an empty one
        wanted = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with lone_checkpointer(ocp.StandardCheckpointHandler) as checkpointer:
            # Not strict, so that the zero columns which pad the kernel can be added or dropped.
            restored = checkpointer.restore(
                path / "state", args=ocp.args.StandardRestore(wanted, strict=False)
            )
        if _checksums(restored) != position["sums"]:
            raise ValueError("its checksums differ from those saved")
        return restored, position["batches"]

    def _flush(self) -> None:
        """Called when all is written, before Orbax renames the folder: only then is it sure to be whole."""
        if isinstance(self._folder, pathlib.Path):  # not in a bucket
            for unfinished in self._folder.glob("*.orbax-checkpoint-tmp*"):
                flush_tree(unfinished)

    def _tidy(self) -> None:
        """Removes what interrupted saves left, and moves what cannot be read aside."""
        if isinstance(self._folder, pathlib.Path):  # in a bucket, Orbax removes it
            for unfinished in self._folder.glob("*.orbax-checkpoint-tmp*"):
                remove_tree(unfinished)  # to which threads of a save that failed may still write
        self._move_unreadable_aside()

    def _move_unreadable_aside(self) -> None:
        """Moves checkpoints aside of which Orbax would read a damaged score or description when it starts."""
        if not self._folder.is_dir():
            return
        for path in list(self._folder.iterdir()):
            if not path.name.isdigit():
                continue
            try:
                read_checkpoint_card(path)
                if (path / "_CHECKPOINT_METADATA").exists():
                    read_json(path / "_CHECKPOINT_METADATA", "")
            except LaterVersion:
                raise
            except Exception as error:  # of a bucket, many types
                if not isinstance(error, InputError):
                    raise InputError(f"{path}: could not be read ({first_line(error)}); try again") from error
                if not is_damage(error):
                    raise InputError(f"{problem_of(error)}; mend that and try again") from error
                self._aside.append(int(path.name))
                self._move_aside(int(path.name), problem_of(error).removeprefix(f"{path}").lstrip("/: "))

    def _move_aside(self, step: int, problem: str) -> None:
        StepProgress.say(
            f"warning: {self._folder / str(step)}: cannot be read ({problem}); moved to {_DAMAGED}/; "
            "the checkpoint before it is used"
        )
        aside = self._folder.parent / _DAMAGED
        aside.mkdir(exist_ok=True)
        (self._folder / str(step)).rename(aside / f"{step}-{time.time_ns()}")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns any error in writing, be it from an earlier background save, into an InputError."""
        try:
            yield
        except Exception as error:
            good = [int(path.name) for path in self._folder.iterdir() if path.name.isdigit()]
            raise InputError(
                f"{self._folder}: a checkpoint could not be written ({first_line(error)}); "
                + (f"the last good one is of step {max(good)}" if good else "there is none before it")
                + "; free some space and run the same command to continue"
            ) from error


@jax.jit
def _word_sums(state: TrainState) -> jax.Array:
    def words(leaf):
        return jnp.sum(jax.lax.bitcast_convert_type(leaf, jnp.uint32), dtype=jnp.uint32)

    return jnp.stack([words(leaf) for leaf in jax.tree.leaves(state)])


def _checksums(state: TrainState) -> list[int]:
    """Checksum of each array: the sum of its 32-bit words, which devices and zero padding do not change."""
    return jax.device_get(_word_sums(state)).tolist()
