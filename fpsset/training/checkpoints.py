"""Checkpoints of a run: state, data position and what is needed to use the model without the run."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Iterator

import grain
import jax
import orbax.checkpoint as ocp

from fpsset.errors import InputError
from fpsset.training.state import TrainState
from fpsset.weights import AggregatorCard

_FORMAT = 1
_SCORE = "score"


class Checkpoints:
    """The checkpoints under a workdir: the latest and the best by validation are kept.

    Use as a context manager; leaving it waits for the last save.
    """

    def __init__(self, workdir: pathlib.Path):
        """Opens `workdir`/checkpoints, which is made if missing."""
        policies = ocp.checkpoint_managers
        best = policies.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
        keep = policies.AnyPreservationPolicy([policies.LatestN(n=1), best])
        self._manager = ocp.CheckpointManager(
            workdir.absolute() / "checkpoints",
            options=ocp.CheckpointManagerOptions(preservation_policy=keep, best_fn=_score),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

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
            data=grain.checkpoint.CheckpointSave(batches),
            card=ocp.args.JsonSave({"format": _FORMAT, **dataclasses.asdict(card)}),
        )
        self._manager.save(step, args=items, metrics=None if score is None else {_SCORE: score})

    def restore(self, state: TrainState, batches: grain.DatasetIterator) -> TrainState:
        """The newest checkpoint's state; `batches` is moved to its position.

        Args:
          state: a fresh state, for shapes and types.
          batches: a fresh iterator over the same data.
        """
        restored = self._manager.restore(
            self._manager.latest_step(),
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, state)),
                data=grain.checkpoint.CheckpointRestore(batches),
            ),
        )
        return restored.state


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax warns of the items that are left unread and of reading only: both are meant."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@_quiet()
def read_params(path: pathlib.Path) -> tuple[dict, AggregatorCard, str]:
    """The aggregator's parameters of a checkpoint.

    Args:
      path: a workdir (its best checkpoint), a `checkpoints` folder, or one checkpoint in it.

    Returns:
      (tree under 'params', the model's card, the checkpoint's path from the workdir's name on).

    Raises:
      InputError: there is no checkpoint, or it is not one of this package.
    """
    path = pathlib.Path(path).absolute()
    step = None
    if path.name.isdigit() and (path / "state").is_dir():
        path, step = path.parent, int(path.name)
    elif (path / "checkpoints").is_dir():
        path = path / "checkpoints"
    if not path.is_dir():
        raise InputError(
            f"{path}: no such folder; give a workdir that holds checkpoints/, or train one first"
        )
    handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
    handlers.add("state", ocp.args.PyTreeRestore, ocp.PyTreeCheckpointHandler())
    handlers.add("card", ocp.args.JsonRestore, ocp.JsonCheckpointHandler())
    options = ocp.CheckpointManagerOptions(best_fn=_score, read_only=True)
    with ocp.CheckpointManager(path, options=options, handler_registry=handlers) as manager:
        if step is None:
            step = manager.best_step()
        if step is None:
            step = manager.latest_step()
        if step is None:
            raise InputError(f"{path}: holds no checkpoint; train one first, or give another workdir")
        if not all((path / str(step) / item).is_dir() for item in ("card", "state")):
            raise InputError(f"{path / str(step)}: is not a checkpoint of fpsset")
        fields = dict(manager.restore(step, args=ocp.args.Composite(card=ocp.args.JsonRestore())).card)
        if fields.pop("format", None) != _FORMAT:
            raise InputError(f"{path / str(step)}: was written by another version of fpsset")
        params = _restore_aggregator(manager, step)
    return params, AggregatorCard(**fields), "/".join((*path.parts[-2:], str(step)))


def _restore_aggregator(manager: ocp.CheckpointManager, step: int) -> dict:
    """Reads the aggregator's arrays alone, onto this process's first device."""
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


def _score(metrics: dict[str, float]) -> float:
    return metrics[_SCORE]
