"""Reads the model in a run's checkpoint, without the rest of the run."""

import contextlib
import functools
import logging
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath

from fpsset.errors import InputError, first_line
from fpsset.runtime.files import as_path
from fpsset.runtime.interrupts import stops_held
from fpsset.runtime.progress import StepProgress
from fpsset.weights.cards import AggregatorCard, lone_checkpointer
from fpsset.weights.checkpoint_card import (
    CheckpointCard,
    LaterVersion,
    is_damage,
    params_listing,
    problem_of,
    read_checkpoint_card,
    read_position,
    word_sums,
)

_DELETION_SECONDS = 0.3  # in which a deletion that is under way deletes something
_Read = TypeVar("_Read")


@functools.cache
def silence_late_io_errors() -> None:
    """Suppresses tracebacks from asynchronous I/O that outlives a failed operation."""
    before = sys.unraisablehook

    def hook(error) -> None:
        code = getattr(error.object, "cr_code", None)  # of a coroutine
        if "Event loop is closed" not in str(error.exc_value) and "orbax" not in getattr(
            code, "co_filename", ""
        ):
            before(error)

    def is_not_of_arrays(record: logging.LogRecord) -> bool:
        return "tensorstore" not in record.getMessage()

    sys.unraisablehook = hook
    logging.getLogger("asyncio").addFilter(is_not_of_arrays)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Orbax's warnings about files that it reads in part, which is intended."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@_quiet()
@stops_held()
def read_params(path: str | os.PathLike) -> tuple[dict, AggregatorCard, str]:
    """Reads the aggregator's parameters from a checkpoint.

    A checkpoint that is damaged is passed over with a warning, and one that a training deletes meanwhile
    without one.

    Args:
      path: a workdir or its `checkpoints` folder, for the best checkpoint, or one checkpoint.

    Returns:
      (tree under 'params', the model's card, the checkpoint's path starting at the workdir's name).

    Raises:
      InputError: there is no checkpoint, none can be read, or fpsset did not write it.
    """
    silence_late_io_errors()
    path = as_path(path, absolute=True)
    if path.name.isdigit() and (path / "state").is_dir():
        found = _Found(path.parent, [int(path.name)])
    else:
        path = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        if not path.is_dir():
            raise InputError(
                f"{path}: no such folder; give a workdir that holds checkpoints/, or train a model first"
            )
        found = _Found(path)
    while True:
        cards = {step: card for step in found.left() if (card := found.read(step, read_checkpoint_card))}
        if not cards and not found.left():
            raise found.error()
        if not cards:
            continue
        best = max(cards, key=lambda step: (cards[step].score is not None, cards[step].score or 0, step))
        params = found.read(best, functools.partial(_restore_aggregator, card=cards[best]))
        if params is not None:
            return params, cards[best].card, "/".join((*found.folder.parts[-2:], str(best)))


class _Found:
    """The checkpoints of a folder, without those that cannot be read."""

    def __init__(self, folder: pathlib.Path, only: list[int] | None = None):
        """Of all checkpoints, or of some."""
        self.folder, self._only = folder, only
        self._passed: dict[int, InputError | None] = {}

    def left(self) -> list[int]:
        """The steps that are there now and have not been passed over."""
        steps = self._only or [int(entry.name) for entry in self.folder.iterdir() if entry.name.isdigit()]
        return [step for step in steps if step not in self._passed]

    def read(self, step: int, read: Callable[[pathlib.Path], _Read]) -> _Read | None:
        """What `read` reads from a checkpoint; None if it is passed over from now on."""
        path = self.folder / str(step)
        try:
            if not all((path / item).exists() for item in ("card", "state")):
                raise InputError(f"{path}: is not a checkpoint of fpsset; give another one")
            for item in ("card", "state"):
                list((path / item).iterdir())  # Orbax takes a folder that it may not read for an empty one
            return read(path)
        except LaterVersion:
            raise
        except Exception as error:  # Orbax raises many types for damaged files
            if not is_damage(error):
                own = isinstance(error, InputError)
                said = problem_of(error) if own else f"{path}: could not be read ({problem_of(error)})"
                raise InputError(f"{said}; mend that and try again") from error
            if _is_being_deleted(path):
                self._passed[step] = None
                return None
            if not isinstance(error, InputError):
                error = InputError(
                    f"{path}: is damaged ({first_line(error)}); give another checkpoint in {self.folder}"
                )
            self._passed[step] = error
            if self.left():
                StepProgress.say(f"warning: {problem_of(error)}; another checkpoint is used")
            return None

    def error(self) -> InputError:
        """Why none can be read."""
        errors = [error for error in self._passed.values() if error]
        if not errors:
            return InputError(
                f"{self.folder}: holds no checkpoint; train a model first, or give another workdir"
            )
        return errors[0]


def _is_being_deleted(path: pathlib.Path) -> bool:
    """Whether a checkpoint is gone, or a training is deleting it."""

    def files() -> list[str]:
        with contextlib.suppress(OSError):
            return sorted(map(str, path.rglob("*"))) if path.exists() else []
        return []

    before = files()
    if before:
        time.sleep(_DELETION_SECONDS)
    return not (after := files()) or after != before


def _restore_aggregator(path: pathlib.Path, card: CheckpointCard) -> dict:
    """Reads only the aggregator's arrays, onto this process's first device, and checks them.

    Raises:
      InputError: they are not those that were saved.
      Exception: of many types, from Orbax, for damaged files.
    """
    state = epath.Path(path) / "state"
    with lone_checkpointer(ocp.PyTreeCheckpointHandler) as checkpointer:
        # Of the handler: the checkpointer gives None for errors that say what is wrong.
        tree = checkpointer.handler.metadata(state).tree
        wanted = {"params": {"aggregator": tree["params"]["aggregator"]}}
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), wanted
        )
        arrays = target["params"]["aggregator"]
        if card.params is None:
            sums = _sums_of_0_1(path, len(jax.tree.leaves(arrays)))
        else:
            sums = [entry[-1] for entry in card.params]
            if len(sums) != len(jax.tree.leaves(arrays)) or params_listing(arrays, sums) != card.params:
                raise InputError(f"{path}: its arrays are not those that were saved; give another checkpoint")
        restore = ocp.args.PyTreeRestore(
            target, restore_args=ocp.checkpoint_utils.construct_restore_args(target), partial_restore=True
        )
        params = checkpointer.restore(state, args=restore)["params"]["aggregator"]
    if sums is not None and word_sums(params) != sums:
        raise InputError(f"{path}: its parameters differ from those saved; give another checkpoint")
    return params


def _sums_of_0_1(path: pathlib.Path, count: int) -> list[int] | None:
    """The checksums of the aggregator's arrays, which follow that of the step; None if there are none."""
    if not (path / "data/metadata").exists():  # format 1
        return None
    return read_position(path)["sums"][1 : 1 + count]
