"""The training loop, top to bottom."""

import dataclasses
import math
import pathlib
import time
from contextlib import ExitStack
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from fpsset.data.feature_table import FeatureTable, templates
from fpsset.errors import InputError, TrainingError
from fpsset.evaluation.evaluator import validation_tar
from fpsset.evaluation.metric_names import far_of, tar_name
from fpsset.evaluation.verification import all_pairs, reachable_far
from fpsset.inference.descriptors import describe_one
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.parallel.mesh import local_copy, padded_classes, put_batch, sharded_init
from fpsset.runtime import hosts
from fpsset.runtime.files import as_path
from fpsset.runtime.interrupts import Interrupted, stop_requests
from fpsset.runtime.progress import StepProgress
from fpsset.training.checkpoints import Checkpoints
from fpsset.training.closed_form_init import ClosedForm, closed_form_init
from fpsset.training.faces import TrainingFaces
from fpsset.training.modules import make_head, make_set_model, require_width
from fpsset.training.optimizer import make_optimizer
from fpsset.training.step import geometric, init_state, make_train_step
from fpsset.training.telemetry import Board, MetricsLog, StepTrace
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
    """Trains up to `config.steps`, from the newest checkpoint in `workdir` if it holds one.

    Args:
      config: checked configuration.
      workdir: gets metrics.jsonl, and where `config.checkpoints` is empty checkpoints/ and config.json.
      faces: of the people to train on and to validate with.
      model: a set model with the interface of FaceCoresetNet, to compare; by `config.model` when None.
      init: settings of `config.model.init` 'closed_form'.

    Raises:
      InputError: unusable data, or a workdir that belongs to another configuration.
      TrainingError: the loss or its gradient stopped being finite.
      Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    mesh = faces.mesh
    if model is None:
        require_width(config, faces.dim)
        model = make_set_model(config.model)
    head = make_head(config, faces.people, padded_classes(faces.people, mesh))
    optimizer = make_optimizer(config.optimizer, config.head.trained)
    root = jax.random.key(config.seed)
    step_once = make_train_step(
        model,
        head,
        optimizer,
        root,
        score_scale=geometric(*config.model.score_scale, config.steps),
        temperature=geometric(*config.model.temperature, config.steps),
        mesh=mesh,
        head_trained=config.head.trained,
    )
    state = sharded_init(lambda: init_state(model, head, optimizer, root, faces.dim), mesh)
    card = AggregatorCard(
        coreset_size=config.model.coreset_size,
        num_heads=config.model.num_heads,
        dim=faces.dim,
        norm_scale=faces.norm_scale,
        backbone=faces.backbone,
        train_fingerprint=faces.fingerprint,
        quality=config.model.quality,
        by_media=config.model.by_media,
    )
    validate, metric = _validation(model, faces.held_out, config)

    kept = as_path(config.checkpoints or workdir)
    hosts.first_alone(lambda: claim_workdir(kept, config, faces.fingerprint))
    with ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(kept))
        if checkpoints.latest_step() is None:
            state = closed_form_init(state, model, faces, config, init)
        state = checkpoints.restore(state, faces.batches)
        done = int(state.step)
        if done >= config.steps:
            return
        log = stack.enter_context(MetricsLog(workdir / "metrics.jsonl" if hosts.is_first() else None, done))
        folder = workdir / "tensorboard" if config.tensorboard and hosts.is_first() else None
        board = stack.enter_context(Board(folder, done))
        stop = stack.enter_context(stop_requests())
        progress = stack.enter_context(StepProgress(config.steps, done, config.batch_size))
        progress.say(
            f"training on {faces.summary}, validating on {len(faces.held_out)} of "
            f"{len(set(faces.held_out.subject.tolist()))} others" + (f", from step {done}" if done else "")
        )
        profile = config.profile if hosts.is_first() else ""
        trace = stack.enter_context(StepTrace(profile, workdir / "profile"))
        any_process = hosts.Agreement(mesh)
        pending = None  # metrics are read one step late, so that the device never waits for us
        started, logged = time.monotonic(), done
        for step in range(done + 1, config.steps + 1):
            with trace.step(step):
                batch = put_batch(next(faces.batches), mesh)
                state, metrics = step_once(state, faces.to_sets(batch, step - 1))
            if pending is not None:
                progress.advance(f"loss {_check_finite(step - 1, pending):.3f}")
            pending = metrics
            last, stopping = step == config.steps, any_process(stop.asked)
            if last or stopping or step % config.eval_every == 0 or step % config.log_every == 0:
                _check_finite(step, metrics)
            if step % config.log_every == 0 or last:
                rate = (step - logged) * config.batch_size / max(time.monotonic() - started, 1e-9)
                for writer in (log, board):
                    writer.write(step, templates_per_second=rate, **jax.device_get(metrics))
                started, logged = time.monotonic(), step
            if last or step % config.eval_every == 0:
                score = validate(local_copy(state.params["aggregator"]), partial(board.validation, step))
                for writer in (log, board):
                    writer.write(step, **{metric: score})
                progress.say(f"step {step}: {metric} {score:.4f} on held-out people")
                checkpoints.save(state, faces.batches, card, score)
                started, logged = time.monotonic(), step
            elif stopping:
                checkpoints.save(state, faces.batches, card, None)
            if stopping and not last:
                raise Interrupted(
                    f"stopped at step {step} of {config.steps}; the same command goes on from there"
                )
        progress.advance("")


def _validation(model: FaceCoresetNet, held_out: FeatureTable, config: ConfigDict):
    """((aggregator's params, watch) -> score, the score's name); the FAR is what the held-out pairs allow.

    `watch` is called with (subjects, sets, their descriptors) first.
    Each person's media make two templates, whatever templates the file has.
    """
    _, subjects, sets = templates(dataclasses.replace(held_out, template=None))
    pairs = all_pairs(subjects)
    mend = "raise config.data.holdout, or give more people"
    if not pairs.same.any():
        raise InputError(f"{held_out.name}: no held-out person has two media to compare; {mend}")
    try:
        far = reachable_far(pairs, far_of(config.evaluation.metric))
    except InputError as error:
        raise InputError(f"{held_out.name}: of the held-out people {error}; {mend}") from error

    model = model.clone(dtype=jnp.float32)  # as it will be used

    def validate(params, watch) -> float:
        options = {"faces_per_batch": config.evaluation.faces_per_batch, "packed": config.evaluation.packed}
        described = describe_one(model, {"params": params}, sets, **options)
        watch(subjects, sets, described)
        return validation_tar(described, pairs, far)

    return validate, f"validation_{tar_name(far)}"


def _check_finite(step: int, metrics) -> float:
    """The loss, if it and its gradient are finite."""
    values = jax.device_get({name: metrics[name] for name in ("loss", "grad_norm")})
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"step {step}: {name} is {value}; no checkpoint has it. Lower "
                "config.optimizer.learning_rate or config.head.scale, in a --workdir of its own if this one "
                "holds checkpoints"
            )
    return float(values["loss"])
