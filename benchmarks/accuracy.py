"""Compares the default model with plain poolings, its own parts left out, and trained models.

python benchmarks/accuracy.py --train train.npz --evaluate mixed.npz clips.npz hard.npz
python benchmarks/accuracy.py --train train.npz --evaluate ... --trained "0.1" NAN --workdir runs/accuracy
python benchmarks/accuracy.py --train train.npz --held-out

The first command fits on all people of the training file and compares all templates of each other file. Each
row has the 95% interval of the default minus that row, on the same draws of the people. Poolings with
settings have, in each column, the setting that is best there. Then the settings of the default (shrinkage,
noise, sharpness, drift) are chosen on people with even subjects and reported on the others, and the other
way round. --trained adds models that take minutes to train; --workdir keeps them.

The last command holds out a fifth of the training people, three times, and needs the column `seed`:

  sets     each person's media in two templates
  clips    one template per seed, of its frames
  poor     `clips` with degraded frames only, if the file marks them in a column `degraded`
  large    like `sets`, for people with six media or more; degraded frames only
  crowded  two templates per person (up to a third of the media with --crowds), each of up to three media and
           a dozen near-copies of one more, interpolated between its frames; degraded frames only; also with
           all methods ignoring which faces share a medium
"""

import argparse
import dataclasses
import itertools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from accuracy_protocols import FARS, Figure, Protocol, combined, degraded_rows, protocol, study
from flax import linen as nn
from peers import PEERS, PicksByScore, noise_of, norm_of, poolings, train_peer
from rich.console import Console
from rich.table import Table
from timing import machine

from fpsset.config import base_config, check_config, published_config
from fpsset.data.feature_table import FeatureTable, split_people
from fpsset.data.files import read_features
from fpsset.evaluation.metric_names import far_name
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
SPLITS = 3


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


def best_of(settings: dict[str, Figure]) -> tuple[Figure, list[str]]:
    """The best figure at each FAR, and the settings that give it."""
    names = list(settings)
    best = [max(names, key=lambda name: np.nan_to_num(settings[name].tar[f])) for f in range(len(FARS))]
    columns = [(settings[name].tar[f], settings[name].draws[f]) for f, name in enumerate(best)]
    return Figure(*(np.stack(parts) for parts in zip(*columns, strict=True))), best


def show(title: str, kinds: dict[str, dict[str, Figure]], plain_kinds: list[str]) -> None:
    """Prints a table: TAR of each kind with its best settings, and the default minus it.

    Args:
      title: of the table.
      kinds: {kind: {setting: figure}}, DEFAULT among them.
      plain_kinds: those that make up the row of the best plain pooling, listed after it.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for far in FARS:
        for column in (f"TAR@{far_name(far)}", "default minus it"):
            table.add_column(column, justify="right")
    rows = {kind: best_of(settings) for kind, settings in kinds.items()}
    default = rows[DEFAULT][0]
    all_plain = {(kind, name): figure for kind in plain_kinds for name, figure in kinds[kind].items()}
    rows["best plain pooling here"] = best_of(all_plain)[0], [""] * len(FARS)
    for number, (kind, (figure, settings)) in enumerate(rows.items()):
        cells = []
        for tar, setting, difference in zip(figure.tar, settings, default.minus(figure).texts(), strict=True):
            cells += ["-" if np.isnan(tar) else f"{setting}  {tar:.4f}".strip()]
            cells += ["" if kind == DEFAULT else difference]
        table.add_row(kind, *cells, end_section=number == len(rows) - 2)
    Console(width=140).print(table)


def show_halves(kinds: dict[str, dict[str, list[np.ndarray]]], protocols: list[Protocol]) -> None:
    """Chooses settings on each half of the people, and prints figures of the other half.

    Args:
      kinds: {kind: {setting: descriptors of each protocol}}; the first is compared with the others.
      protocols: with halves.
    """
    places = range(len(protocols))
    chosen: dict[str, list[str]] = {}
    for kind, settings in kinds.items():
        chosen[kind] = []
        for half in (0, 1):
            score = {
                name: np.nansum([protocols[p].halves[half].tar(vectors[p]) for p in places])
                for name, vectors in (settings.items() if len(settings) > 1 else ())
            }
            chosen[kind].append(max(score, key=score.get) if score else next(iter(settings)))
    for place, one in enumerate(protocols):
        shares = np.array([half.genuine for half in one.halves], float)
        table = Table(
            title=f"{one.name}, settings chosen on the other half: {int(shares.sum()):,} genuine pairs",
            title_justify="left",
        )
        table.add_column("")
        for far in FARS:
            for column in ("even  odd", f"TAR@{far_name(far)}", "chosen minus it"):
                table.add_column(column, justify="right")
        first = None
        for kind, settings in kinds.items():
            halves = [one.halves[h].figure(settings[chosen[kind][1 - h]][place]) for h in (0, 1)]
            both = combined(halves, shares / shares.sum())
            first = both if first is None else first
            cells = []
            for f, difference in enumerate(first.minus(both).texts()):
                even_odd = " ".join(f"{half.tar[f]:.3f}" for half in halves)
                cells += [even_odd, f"{both.tar[f]:.4f}", "" if both is first else difference]
            table.add_row(kind, *cells)
        Console(width=140).print(table)
    for kind, (even, odd) in chosen.items():
        if even or odd:
            print(f"{kind}: on even people chosen {even}; on odd people {odd}")


def compare_files(arguments: argparse.Namespace, table: FeatureTable) -> None:
    """Fits on all people of the training file, and prints figures of the other files."""
    protocols = [
        protocol(read_features(path), path.stem, arguments.resamples, with_halves=True)
        for path in arguments.evaluate
    ]
    fitted = fit_posterior(table)
    kinds = {kind: {"": one} for kind, one in (parts(table, fitted) | fitted_rivals(table, fitted)).items()}
    kinds |= {name: {"": trained(name, table, arguments.workdir)} for name in arguments.trained}
    poolings_here = plain(table, MANY)
    kinds |= poolings_here
    vectors = {
        kind: {name: [one(p.sets) for p in protocols] for name, one in settings.items()}
        for kind, settings in kinds.items()
    }
    figures = [
        {
            kind: {name: one.everyone.figure(found[place]) for name, found in settings.items()}
            for kind, settings in vectors.items()
        }
        for place, one in enumerate(protocols)
    ]
    for one, found in zip(protocols, figures, strict=True):
        people = len(np.unique(one.everyone.subjects))
        show(
            f"{one.name}: {one.everyone.genuine:,} genuine pairs of {people:,} people",
            found,
            list(poolings_here),
        )
    if {"0.1", "0.1 untrained"} <= set(arguments.trained):
        for one, found in zip(protocols, figures, strict=True):
            print(
                f"0.1 minus 0.1 untrained, {one.name}:",
                *found["0.1"][""].minus(found["0.1 untrained"][""]).texts(),
            )
    of_recipes = {name: [one(p.sets) for p in protocols] for name, one in recipes(table).items()}
    left_out = {kind for kind in kinds if kind.startswith(" ")}
    shown = {kind: settings for kind, settings in vectors.items() if kind not in left_out}
    show_halves({"chosen": of_recipes} | shown, protocols)


def compare_held_out(arguments: argparse.Namespace, table: FeatureTable) -> None:
    """Fits on some people of the training file, and prints figures of the others."""
    degraded = degraded_rows(arguments.train)
    found: dict[str, dict] = {}
    counts: dict[str, list[int]] = {}
    names = []
    for split in range(SPLITS):
        fit, held = split_people(table, 0.2, seed=split)
        fitted = fit_posterior(fit)
        kinds = {kind: {"": one} for kind, one in (parts(fit, fitted) | fitted_rivals(fit, fitted)).items()}
        poolings_here = plain(fit, FEW)
        names = list(poolings_here)
        for one in study(held, degraded, arguments.resamples, arguments.crowds):
            StepProgress.say(f"split {split + 1} of {SPLITS}: {one.name}")
            count = counts.setdefault(one.name, [0, 0])
            count[0] += one.everyone.genuine
            count[1] += len(np.unique(one.everyone.subjects))
            shown = kinds if one.sets.media is None else respecting_media(kinds)
            for kind, settings in (shown | poolings_here).items():
                for name, how in settings.items():
                    by_kind = found.setdefault(one.name, {}).setdefault(kind, {})
                    by_kind.setdefault(name, []).append(one.everyone.figure(how(one.sets)))
    for protocol_name, kinds in found.items():
        means = {
            kind: {name: combined(figures) for name, figures in settings.items()}
            for kind, settings in kinds.items()
        }
        pairs, people = counts[protocol_name]
        show(
            f"{protocol_name}: {pairs:,} genuine pairs of {people:,} people in {SPLITS} splits", means, names
        )


def main() -> None:
    """See the module docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", required=True, type=pathlib.Path)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--evaluate", nargs="+", type=pathlib.Path)
    what.add_argument("--held-out", action="store_true")
    parser.add_argument("--trained", nargs="+", choices=[*CONFIGS, *PEERS], default=[])
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/accuracy"))
    parser.add_argument("--crowds", type=int, default=2, help="most crowded templates per person")
    parser.add_argument("--resamples", type=int, default=500)
    arguments = parser.parse_args()
    if arguments.held_out and arguments.trained:
        parser.error("--trained needs --evaluate")
    if arguments.crowds < 2:
        parser.error("--crowds must be at least 2")
    table = read_features(arguments.train)
    table = dataclasses.replace(table, paths=np.arange(len(table)), name=str(arguments.train))
    (compare_held_out if arguments.held_out else compare_files)(arguments, table)
    print(machine())


if __name__ == "__main__":
    main()
