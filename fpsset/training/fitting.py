"""Runs of models in closed form: fit on training people, score on held-out ones, fit on all, save."""

import pathlib
from contextlib import ExitStack

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from fpsset.errors import InputError
from fpsset.inference.aggregator import Aggregator
from fpsset.models.posterior import PosteriorPooling
from fpsset.runtime import hosts
from fpsset.runtime.files import as_path
from fpsset.runtime.progress import StepProgress
from fpsset.training.checkpoints import Checkpoints
from fpsset.training.closed_form import Fitted, fit_posterior, fit_whitened
from fpsset.training.faces import TrainingFaces
from fpsset.training.step import TrainState
from fpsset.training.telemetry import Telemetry
from fpsset.training.validation import Validation
from fpsset.training.workdir import claim_workdir
from fpsset.weights.cards import AggregatorCard, is_weights

WHITENED = "whitened"  # the folder of a workdir that holds this rival of the model


def fit_model(config: ConfigDict, workdir: pathlib.Path, faces: TrainingFaces) -> None:
    """Fits `config.model` in closed form and saves it as the checkpoint of step 0, unless it is there.

    The score is that of a fit without the held-out people; the model saved is fitted to all.

    Args:
      config: checked configuration, `config.model.name` 'posterior'.
      workdir: gets metrics.jsonl and, unless `config.checkpoints` names another place, checkpoints/ and
        config.json.
      faces: people to fit to, and others to validate on.

    Raises:
      InputError: unusable data, or a workdir that belongs to another configuration.
    """
    size = config.model.coreset_size
    validation = Validation(PosteriorPooling(size), faces.held_out, config)
    store = as_path(config.checkpoints or workdir)
    hosts.on_first_process(lambda: claim_workdir(store, config, faces.fingerprint))
    with ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(store))
        if checkpoints.latest_step() is not None:
            return
        telemetry = stack.enter_context(Telemetry(config, workdir, -1))  # drops lines of an unsaved fit
        StepProgress.say(f"fitting to {faces.summary}, validating on others")
        options = {"gamma": config.model.gamma, "norm_scale": 1.0}  # the faces' norms are scaled already
        found = fit_posterior(faces.sample(), **options)
        validation.model = PosteriorPooling(size, ignores_norms=found.ignores_norms)
        score = validation.score(found.params, lambda *shown: telemetry.show_validation(0, *shown))
        telemetry.write(0, **{validation.metric: score})
        StepProgress.say(f"{validation.metric} {score:.4f} on held-out people")
        found = fit_posterior(faces.everyone(), **options)
        if found.warning:
            StepProgress.say(f"warning: {found.warning}")
        params = jax.device_put(found.params, NamedSharding(faces.mesh, P()))
        state = TrainState(jnp.zeros((), jnp.int32), {"aggregator": params}, {}, {})
        checkpoints.save(state, faces.batches, _card("posterior", found, config, faces), score)


def fit_rival(config: ConfigDict, workdir: pathlib.Path, faces: TrainingFaces) -> None:
    """Fits a plain pooling to the same people, for the evaluation's method 'whitened'.

    It is saved in the workdir, for `fpsset.load`, unless one for these faces is there. With images it is
    fitted only along with a model in closed form, since it takes a pass over all of them.
    """
    folder = workdir / WHITENED
    if config.data.source == "images" and config.model.name != "posterior":
        return
    kept = saved_rival(workdir)
    if hosts.first_says(kept is not None and kept.train_fingerprint == faces.fingerprint):
        return
    table = faces.everyone()  # on all processes, which may embed it together

    def fit_and_save() -> None:
        try:
            found = fit_whitened(table)
        except InputError as error:  # a model trained from random weights needs no person with two media
            StepProgress.say(f"no method '{WHITENED}': {error}")
            return
        Aggregator(found.params, _card(WHITENED, found, config, faces), str(folder)).save(folder)

    hosts.on_first_process(fit_and_save)


def saved_rival(model: pathlib.Path) -> Aggregator | None:
    """The rival in the workdir of a model, or None.

    Args:
      model: a workdir, its folder of checkpoints or one of them; anything else has no rival.
    """
    from fpsset.inference.loading import load

    for folder in (model, model.parent):
        if folder.name == "checkpoints":
            model = folder.parent
    return load(model / WHITENED) if is_weights(model / WHITENED) else None


def _card(model: str, found: Fitted, config: ConfigDict, faces: TrainingFaces) -> AggregatorCard:
    return found.card(
        model, config.model.coreset_size, faces.dim, faces.backbone, faces.fingerprint, faces.norm_scale
    )
