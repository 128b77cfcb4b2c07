"""The training loop."""

import math
import pathlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from fpsset.data.pipeline import TrainingBatch
from fpsset.errors import InputError, TrainingError
from fpsset.parallel.mesh import local_copy, padded_classes, put_batch, sharded_init, state_shapes
from fpsset.runtime import hosts
from fpsset.runtime.files import as_path
from fpsset.runtime.interrupts import Interrupted, stop_requests
from fpsset.runtime.progress import StepProgress
from fpsset.training.checkpoints import Checkpoints
from fpsset.training.closed_form_init import ClosedForm, closed_form_init
from fpsset.training.faces import TrainingFaces, in_steps
from fpsset.training.modules import make_head, make_set_model, require_width
from fpsset.training.optimizer import make_optimizer
from fpsset.training.step import Metrics, TrainState, geometric, init_state, make_train_step
from fpsset.training.telemetry import Telemetry
from fpsset.training.validation import Validation
from fpsset.training.workdir import claim_workdir
from fpsset.weights.cards import AggregatorCard

_INIT = ClosedForm()


def train(
    config: ConfigDict,
    workdir: pathlib.Path,
    faces: TrainingFaces,
    model: nn.Module | None = None,
    init: ClosedForm = _INIT,
) -> None:
    """Trains to the last step, resuming from the newest checkpoint if there is one.

    Args:
      config: checked configuration; the epochs of its recipe count where it gives no steps.
      workdir: gets metrics.jsonl and, unless `config.checkpoints` names another place, checkpoints/ and
        config.json.
      faces: batches to train on and people to validate on.
      model: a set model with the interface of FaceCoresetNet, for comparisons; None: `config.model`.
      init: settings for `config.model.init` 'closed_form'.

    Raises:
      InputError: unusable data, or a workdir that belongs to another configuration.
      TrainingError: the loss or its gradient stopped being finite.
      Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    config = in_steps(config, faces)
    if model is None:
        require_width(config, faces.dim)
        model = make_set_model(config.model)
    fresh_state, train_step = _init_and_step(config, model, faces)
    validation = Validation(model, faces.held_out, config) if len(faces.held_out) else None
    card = _card(config, faces)
    store = as_path(config.checkpoints or workdir)
    hosts.on_first_process(lambda: claim_workdir(store, config, faces.fingerprint))

    with ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(store))
        state = checkpoints.restore(state_shapes(fresh_state, faces.mesh), faces.batches)
        if state is None:
            state = closed_form_init(sharded_init(fresh_state, faces.mesh), model, faces, config, init)
        done = int(state.step)
        if done > config.steps:
            raise InputError(
                f"{store}: holds a run of {done} steps, but config.steps is {config.steps}; give at least "
                f"{done}, or another --workdir, or evaluate that run: fpsset eval"
            )
        if done == config.steps:
            return
        telemetry = stack.enter_context(Telemetry(config, workdir, done))
        stop = stack.enter_context(stop_requests())
        progress = stack.enter_context(StepProgress(config.steps, done, config.batch_size))
        progress.say(_opening_line(faces, done))
        any_process = hosts.Agreement(faces.mesh)
        throughput = _Throughput(config.batch_size, done)
        pending = None  # metrics are read one step late, so that the device never waits for the host

        for step in range(done + 1, config.steps + 1):
            with telemetry.trace_step(step):
                batch = put_batch(next(faces.batches), faces.mesh)
                state, metrics = train_step(state, faces.to_sets(batch, step - 1))
            if pending is not None:
                progress.advance(f"loss {_finite_loss(step - 1, pending):.3f}")
            pending = metrics

            last, stopping = step == config.steps, any_process(stop.requested)
            logs = last or step % config.log_every == 0
            validates = last or step % config.eval_every == 0
            if logs or validates or stopping:
                _finite_loss(step, metrics)
            if logs:
                rate = throughput.measure(step)
                telemetry.write(step, templates_per_second=rate, **jax.device_get(metrics))
            score = None
            if validates and validation is not None:
                params = local_copy(state.params["aggregator"])
                score = validation.score(params, partial(telemetry.show_validation, step))
                telemetry.write(step, **{validation.metric: score})
                progress.say(f"step {step}: {validation.metric} {score:.4f} on held-out people")
            if validates or stopping:
                checkpoints.save(state, faces.batches, card, score)
            if logs or validates:
                throughput.restart(step)
            if stopping:
                raise _interrupted(step, config.steps)
        progress.advance("")
        if any_process.at_last(stop.requested):  # e.g. during the last validation
            raise _interrupted(config.steps, config.steps)


def _interrupted(step: int, steps: int) -> Interrupted:
    return Interrupted(f"stopped at step {step} of {steps}; run the same command to continue from there")


def _init_and_step(
    config: ConfigDict, model: nn.Module, faces: TrainingFaces
) -> tuple[Callable[[], TrainState], Callable[[TrainState, TrainingBatch], tuple[TrainState, Metrics]]]:
    """What makes a fresh state, and the jitted training step."""
    head = make_head(config, faces.people, padded_classes(faces.people, faces.mesh))
    optimizer = make_optimizer(config.optimizer, config.head.trained)
    root = jax.random.key(config.seed)
    train_step = make_train_step(
        model,
        head,
        optimizer,
        root,
        score_scale=geometric(*config.model.score_scale, config.steps),
        temperature=geometric(*config.model.temperature, config.steps),
        mesh=faces.mesh,
        head_trained=config.head.trained,
    )
    return partial(init_state, model, head, optimizer, root, faces.dim), train_step


def _card(config: ConfigDict, faces: TrainingFaces) -> AggregatorCard:
    return AggregatorCard(
        coreset_size=config.model.coreset_size,
        num_heads=config.model.num_heads,
        dim=faces.dim,
        norm_scale=faces.norm_scale,
        backbone=faces.backbone,
        train_fingerprint=faces.fingerprint,
        quality=config.model.quality,
        by_media=config.model.by_media,
    )


def _opening_line(faces: TrainingFaces, done: int) -> str:
    others = f"{len(faces.held_out)} of {len(set(faces.held_out.subject.tolist()))} others"
    validating = f"validating on {others}" if len(faces.held_out) else "validating on nobody"
    return f"training on {faces.summary}, {validating}" + (f", from step {done}" if done else "")


class _Throughput:
    """Templates per second of the training steps alone."""

    def __init__(self, batch_size: int, step: int):
        self._batch_size = batch_size
        self.restart(step)

    def measure(self, step: int) -> float:
        """The mean rate since the last restart."""
        return (step - self._step) * self._batch_size / max(time.monotonic() - self._time, 1e-9)

    def restart(self, step: int) -> None:
        """Starts anew after `step`, so that logging, validation and saving are not counted."""
        self._time, self._step = time.monotonic(), step


def _finite_loss(step: int, metrics) -> float:
    """The loss; raises TrainingError if it or the norm of its gradient is not finite."""
    values = jax.device_get({name: metrics[name] for name in ("loss", "grad_norm")})
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"step {step}: {name} is {value}, and is in no checkpoint; lower "
                "config.optimizer.learning_rate or config.head.scale, in another --workdir if this one "
                "holds checkpoints"
            )
    return float(values["loss"])
