"""The methods that `accuracy.py` compares: plain poolings, the default and its parts, trained models."""

import itertools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from flax import linen as nn
from peers import PEERS, PicksByScore, noise_of, norm_of, poolings, train_peer

from fpsset.config import base_config, check_config, published_config
from fpsset.data.feature_table import FeatureTable
from fpsset.face_set import RaggedSets
from fpsset.inference.descriptors import describe_one
from fpsset.models.pooling import WhitenedMedia
from fpsset.models.posterior import PosteriorPooling
from fpsset.parallel.mesh import data_mesh
from fpsset.runtime.progress import StepProgress
from fpsset.training.closed_form import Fitted, PosteriorSettings, fit_posterior, fit_whitened
from fpsset.training.faces import faces_of_table
from fpsset.training.loop import train
from fpsset.training.modules import make_set_model
from fpsset.training.neighbourhood import inverse_root, neighbourhood, scatter, some_people
from fpsset.weights.trained import read_params

DEFAULT, WHITENED = "default", "whitened (fitted)"
QUALITY = "exp(quality), whitened"
GRID = {
    "shrinkage": (1.0, 0.95, 0.9, 0.8),
    "drift": (True, False),
    "sharpness": (8.0, 10.0, 12.0),
    "noise": (0.0, 0.1, 0.2, 0.4),
}


class Settings(NamedTuple):
    """What the plain poolings try."""

    powers: tuple[float, ...]  # of the norm
    shrinkages: tuple[float, ...]  # of the whitening
    counts: tuple[int, ...]  # faces of the largest norms
    sizes: tuple[int, ...]  # coresets
    gammas: tuple[float, ...]  # exponents of the norm in the metric of farthest-point sampling


MANY = Settings((1, 3, 5, 8, 12), (0.95, 0.9, 0.8, 0.7), (1, 2, 3, 5), (3, 5, 8), (0.35, 2.0))
FEW = Settings((5, 8, 12), (0.9, 0.8), (2, 3), (5,), (2.0,))  # for the large protocols of held-out people

Method = Callable[[RaggedSets], np.ndarray]  # sets -> descriptors [T, D]
_MODEL, _WHITENED = PosteriorPooling(), WhitenedMedia()


def method(model: nn.Module, params: dict, norm_scale: float, media: bool = True) -> Method:
    """Describes sets with a model; `media` False hides which faces share a medium."""

    def described(sets: RaggedSets) -> np.ndarray:
        sets = sets._replace(norms=sets.norms * np.float32(norm_scale))
        sets = sets if media else sets._replace(media=None)
        return describe_one(model, {"params": params}, sets).vectors

    return described


def median(sets: RaggedSets) -> np.ndarray:
    """The median of each coordinate over the faces of a set, to unit length."""
    faces = np.split(sets.embeddings[sets.rows], sets.starts[1:-1])
    middle = np.stack([np.median(one, axis=0) for one in faces]).astype(np.float32)
    return middle / np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-12)


def posterior(fitted: Fitted, model: nn.Module = _MODEL, media: bool = True, **params) -> Method:
    """The default model with some of its parameters replaced."""
    changed = {name: np.asarray(value, np.float32) for name, value in params.items()}
    return method(model, fitted.params | changed, fitted.norm_scale, media)


def no_drift(fitted: Fitted) -> dict:
    """The parameters that leave the drift out."""
    return {"drift": np.zeros_like(fitted.params["drift"])}


def scatter_across(fit: FeatureTable) -> np.ndarray:
    """[D, D], the scatter of faces around their person."""
    near = neighbourhood(some_people(fit))
    return scatter(near.faces.embeddings - near.cosine[:, None] * near.center)


def plain(fit: FeatureTable, tried: Settings) -> dict[str, dict[str, Method]]:
    """Poolings by kind, each with its settings: {kind: {setting: method}}."""
    across = scatter_across(fit)
    eye = np.eye(fit.dim, dtype=np.float32)
    scale = 1 / float(fit.norms.mean())

    def power_mean(power: float, media: bool, whitening: np.ndarray = eye) -> Method:
        params = {"gamma": np.float32(0), "power": np.float32(power), "whitening": whitening}
        return method(_WHITENED, params, scale, media)

    kinds = {
        "mean": {"": power_mean(0, False)},
        "median": {"": median},
        "norm^p": {f"p {p}": power_mean(p, False) for p in tried.powers},
        "media means of norm^p": {f"p {p}": power_mean(p, True) for p in (0, *tried.powers)},
        "the same, whitened": {
            f"p {p}, {share}": power_mean(p, True, root)
            for share, root in ((s, inverse_root(across, s).astype(np.float32)) for s in tried.shrinkages)
            for p in tried.powers
        },
    }
    for kind, settings in poolings(*tried[2:]).items():
        kinds[kind] = {name: method(model, {}, scale) for name, model in settings.items()}
    return kinds


def parts(fit: FeatureTable, fitted: Fitted) -> dict[str, Method]:
    """The default model, and the same with one part left out or changed."""
    unknown = {"fitted": fitted, "media": False}
    return {
        DEFAULT: posterior(fitted),
        "  no posterior": posterior(fitted, noise=0.0),
        "  no drift": posterior(fitted, **no_drift(fitted)),
        "  no whitening": posterior(fit_posterior(fit, PosteriorSettings(shrinkage=1.0))),
        "  media unknown": posterior(**unknown),
        "    no near-copies rule": posterior(**unknown, copy_cosine=2.0),
        "    K 1": posterior(**unknown, model=PosteriorPooling(1)),
        "    K 5": posterior(**unknown, model=PosteriorPooling(5)),
        "    random picks": posterior(**unknown, model=PicksByScore(score=noise_of)),
        "    top-norm picks": posterior(**unknown, model=PicksByScore(score=norm_of)),
    }


def respecting_media(kinds: dict) -> dict:
    """Leaves out the variants that ignore media."""
    return {kind: settings for kind, settings in kinds.items() if not kind.startswith("    ")}


def fitted_rivals(fit: FeatureTable, fitted: Fitted) -> dict[str, Method]:
    """The whitened pooling that fits its settings on training people, and a plain mean by quality."""
    whitened = fit_whitened(fit)
    plainer = {"noise": 0.0, "basis": inverse_root(scatter_across(fit), 0.9)} | no_drift(fitted)
    return {
        WHITENED: method(_WHITENED, whitened.params, whitened.norm_scale),
        QUALITY: posterior(fitted, **plainer),
    }


def recipes(fit: FeatureTable) -> dict[str, Method]:
    """The default model with every combination of the settings in GRID."""
    found = {}
    for shrinkage in GRID["shrinkage"]:
        fitted = fit_posterior(fit, PosteriorSettings(shrinkage=shrinkage))
        for drift, sharpness, noise in itertools.product(*list(GRID.values())[1:]):
            params = {"sharpness": sharpness, "noise": noise} | ({} if drift else no_drift(fitted))
            name = f"shrinkage {shrinkage}, sharpness {sharpness:g}, noise {noise}"
            found[name if drift else f"{name}, no drift"] = posterior(fitted, **params)
    return found


def _version_0_1(**fields):
    config = base_config()
    config.model.name = "face_coreset_net"
    config.update(fields)
    return config


CONFIGS = {
    "0.1": _version_0_1,
    "0.1 untrained": lambda: _version_0_1(steps=1),
    "published": published_config,
}


def trained(name: str, fit: FeatureTable, workdir: pathlib.Path) -> Method:
    """Trains a model on `fit`, unless `workdir` has it."""
    StepProgress.say(f"training {name}")
    folder = workdir / "".join(letter if letter.isalnum() else "_" for letter in name)
    if name in PEERS:
        model, variables, scale = train_peer(name, fit, folder.with_suffix(".msgpack"))
        return method(model, variables["params"], scale)
    config = CONFIGS[name]()
    config.data.train = config.data.eval = fit.name
    config.eval_every = min(config.steps, 500)
    check_config(config)
    faces = faces_of_table(config, fit, data_mesh())
    folder.mkdir(parents=True, exist_ok=True)
    train(config, folder, faces)
    return method(make_set_model(config.model), read_params(folder)[0], faces.norm_scale)
