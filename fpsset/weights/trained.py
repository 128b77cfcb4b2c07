"""Reads the model in a run's checkpoint, without the rest of the run."""

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Iterator

import jax
import orbax.checkpoint as ocp

from fpsset.errors import InputError, first_line
from fpsset.runtime.files import as_path
from fpsset.weights.cards import AggregatorCard

FORMAT = 2  # of checkpoints; format 1 kept the data position in one file per process
SCORE = "score"  # the metric that the best checkpoint is chosen by


def score_of(metrics: dict[str, float]) -> float:
    """A checkpoint's score on held-out people; the best checkpoint has the highest."""
    return metrics[SCORE]


@functools.cache
def silence_late_io_errors() -> None:
    """Suppresses tracebacks from asynchronous I/O that outlives a failed operation."""
    before = sys.unraisablehook

    def hook(error) -> None:
        if "Event loop is closed" not in str(error.exc_value):
            before(error)

    sys.unraisablehook = hook


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Orbax's warnings about unread items and read-only access, both of which are intended."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@_quiet()
def read_params(path: str | os.PathLike) -> tuple[dict, AggregatorCard, str]:
    """Reads the aggregator's parameters from a checkpoint.

    Args:
      path: a workdir or its `checkpoints` folder, for the best checkpoint, or one checkpoint.

    Returns:
      (tree under 'params', the model's card, the checkpoint's path starting at the workdir's name).

    Raises:
      InputError: there is no checkpoint, it is damaged, or fpsset did not write it.
    """
    silence_late_io_errors()
    path = as_path(path, absolute=True)
    step = None
    if path.name.isdigit() and (path / "state").is_dir():
        path, step = path.parent, int(path.name)
    elif (path / "checkpoints").is_dir():
        path = path / "checkpoints"
    if not path.is_dir():
        raise InputError(
            f"{path}: no such folder; give a workdir that holds checkpoints/, or train a model first"
        )
    handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
    handlers.add("state", ocp.args.PyTreeRestore, ocp.PyTreeCheckpointHandler())
    handlers.add("card", ocp.args.JsonRestore, ocp.JsonCheckpointHandler())
    options = ocp.CheckpointManagerOptions(best_fn=score_of, read_only=True)
    with ocp.CheckpointManager(path, options=options, handler_registry=handlers) as manager:
        if step is None:
            step = manager.best_step()
        if step is None:
            step = manager.latest_step()
        if step is None:
            raise InputError(f"{path}: holds no checkpoint; train a model first, or give another workdir")
        if not all((path / str(step) / item).is_dir() for item in ("card", "state")):
            raise InputError(f"{path / str(step)}: is not a checkpoint of fpsset; give another one")
        try:
            fields = dict(manager.restore(step, args=ocp.args.Composite(card=ocp.args.JsonRestore())).card)
            params = _restore_aggregator(manager, step)
        except Exception as error:  # Orbax raises many types for damaged files
            raise InputError(
                f"{path / str(step)}: is damaged ({first_line(error)}); give another checkpoint in {path}"
            ) from error
        if fields.pop("format", None) not in (1, FORMAT):
            raise InputError(f"{path / str(step)}: was written by a later version of fpsset; upgrade to it")
    return params, AggregatorCard(**fields), "/".join((*path.parts[-2:], str(step)))


def _restore_aggregator(manager: ocp.CheckpointManager, step: int) -> dict:
    """Reads only the aggregator's arrays, onto this process's first device."""
    metadata = manager.item_metadata(step).state
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted = {"params": {"aggregator": metadata["params"]["aggregator"]}}
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), wanted
    )
    restore = ocp.args.PyTreeRestore(
        target, restore_args=ocp.checkpoint_utils.construct_restore_args(target), partial_restore=True
    )
    restored = manager.restore(step, args=ocp.args.Composite(state=restore))
    return restored.state["params"]["aggregator"]
