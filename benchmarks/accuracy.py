"""Compares recipes: trains each on some of a file's people and verifies others.

python benchmarks/accuracy.py --train train.npz --workdir runs/accuracy
python benchmarks/accuracy.py --train train.npz --workdir runs/accuracy \\
    --evaluate a.npz b.npz --only best faithful

The first command is for choosing a recipe. Each of three splits holds out a different fifth of the people,
whose faces make up the protocols:

  sets     each person's media in two templates
  clips    one template per seed, of its frames
  poor     `clips` with degraded frames only; needs a column `degraded` in the file
  large    like `sets`, for people with six media or more; degraded frames only, if the file marks them
  crowded  two templates per person (up to a third of the media with --crowds, for more pairs), each of up to
           three media and a dozen near-copies of one more, interpolated between its frames; degraded frames
           only, if the file marks them

The second command trains on all people of the file, with three seeds, and reports on other files.

Figures are means over splits or seeds. Each pooling has the settings that do best on a quarter of the
training people; the rival is the pooling that does best on the protocol itself. 95% intervals are of the
difference to the rival, or to a recipe named by --rival, on the same resamples of the subjects. Repeat the
command to resume a stopped run; results of another version of a recipe in the workdir are refused.
"""

import argparse
import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from accuracy_protocols import Templates, degraded_rows, protocol, study
from degradation import degraded_in_features
from flax import linen as nn
from ml_collections import ConfigDict
from peers import CafaceLike, GrowingCoreset, Nan, PicksByScore, noise_of, norm_of, poolings
from rich.console import Console
from rich.table import Table

from fpsset.config import base_config, check_config, published_config
from fpsset.data.feature_table import FeatureTable, split_people
from fpsset.data.files import read_features
from fpsset.evaluation.metric_names import far_name
from fpsset.evaluation.resampling import interval
from fpsset.evaluation.scoring import pair_scores
from fpsset.evaluation.verification import operating_points
from fpsset.inference.descriptors import describe, describe_one
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.parallel.mesh import data_mesh
from fpsset.runtime.progress import StepProgress
from fpsset.training.closed_form_init import ClosedForm
from fpsset.training.faces import faces_of_table
from fpsset.training.loop import train
from fpsset.training.modules import make_set_model
from fpsset.weights.trained import read_params

FARS = (1e-3, 1e-4)
_START = ClosedForm()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a recipe differs from the default.

    Attributes:
      fields: config fields to change, by dotted name.
      base: makes the config that `fields` changes.
      start: settings of the closed-form initialisation.
      model: replaces FaceCoresetNet; attributes that both have are set from the config.
      attributes: further attributes of the model.
      standardised: standardise norms to mean 20 and standard deviation 5, like AdaFace's, instead of scaling
        them to the mean only.
      degraded: degrade some faces during training, in feature space.
      runs: number of runs with different seeds whose weights are averaged; their initialisations are nearly
        the same.
    """

    fields: dict = dataclasses.field(default_factory=dict)
    base: Callable[[], ConfigDict] = base_config
    start: ClosedForm = _START
    model: type[nn.Module] = FaceCoresetNet
    attributes: dict = dataclasses.field(default_factory=dict)
    standardised: bool = False
    degraded: bool = False
    runs: int = 1


# With 4,000 people, a learned peer hardly trains at the published learning rate and number of steps.
_PEER = {"steps": 2000, "optimizer.milestones": (1500,), "optimizer.learning_rate": 1e-3}
# Training changes the initialisation little, so its parts are ablated without training.
_UNTRAINED = {"steps": 1}
_NO_MEDIA = {"model.by_media": False}


def _picks(count: int) -> dict:
    return _UNTRAINED | {"model.coreset_size": count}


RECIPES = {
    "best": Recipe(),
    "random picks": Recipe(model=PicksByScore, attributes={"score": noise_of}),
    "top-norm picks": Recipe(model=PicksByScore, attributes={"score": norm_of}),
    "no media": Recipe(_NO_MEDIA),
    "no media, random picks": Recipe(_NO_MEDIA, model=PicksByScore, attributes={"score": noise_of}),
    "no media, top-norm picks": Recipe(_NO_MEDIA, model=PicksByScore, attributes={"score": norm_of}),
    "random start": Recipe({"model.init": "random", "optimizer.learning_rate": 1e-4}),
    "classes trained": Recipe({"head.trained": True}),
    "classes random": Recipe({"head.init": "random", "head.trained": True}),
    "margin .8": Recipe({"head.margin": 0.8}),
    "ArcFace": Recipe({"head.name": "arcface"}),
    "CosFace": Recipe({"head.name": "cosface"}),
    "scores x 30": Recipe({"model.score_scale": (1.0, 30.0)}),
    "gamma faster": Recipe({"optimizer.gamma_learning_rate": 1e-2}),
    "rate 3e-4": Recipe({"optimizer.learning_rate": 3e-4}),
    "2,000 steps": Recipe({"steps": 2000}),
    "weights averaged": Recipe(runs=3),
    "faces degraded": Recipe(degraded=True),
    "norms standard": Recipe(standardised=True),
    "start alone": Recipe(_UNTRAINED),
    "start, no media": Recipe(_UNTRAINED | _NO_MEDIA),
    "start, no quality": Recipe(_UNTRAINED, start=ClosedForm(sharpness=0.0)),
    "start, no likeness": Recipe(_UNTRAINED, start=ClosedForm(likeness=0.0)),
    "start, no whitening": Recipe(_UNTRAINED, start=ClosedForm(shrinkage=1.0)),
    "start, whole set x 1": Recipe(_UNTRAINED, start=ClosedForm(seen=1.0)),
    "start, gamma .35": Recipe(_UNTRAINED | {"model.gamma": 0.35}),
    "start, K 1": Recipe(_picks(1)),
    "start, K 2": Recipe(_picks(2)),
    "start, K 5": Recipe(_picks(5)),
    "start, K 8": Recipe(_picks(8)),
    "start, K 16": Recipe(_picks(16)),
    "start, K sqrt N": Recipe(_picks(16), model=GrowingCoreset),
    "NAN": Recipe(_PEER, published_config, model=Nan),
    "CAFace-like": Recipe(_PEER, published_config, model=CafaceLike),
    "faithful": Recipe(base=published_config),
}


def make_model(recipe: Recipe, config) -> nn.Module:
    """The set model of a recipe."""
    if not issubclass(recipe.model, FaceCoresetNet):
        return recipe.model()
    return make_set_model(config.model, recipe.model, **recipe.attributes)


def standard(norms: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Norms [M] float32 with mean 20 and standard deviation 5 by the statistics of `of`, clipped at 1."""
    return np.maximum(20 + 5 * (norms - of.mean()) / of.std(), 1).astype(np.float32)


def make_config(recipe: Recipe, fit: FeatureTable, seed: int) -> ConfigDict:
    """The checked config of a recipe, trained on `fit`."""
    config = recipe.base()
    config.data.train = config.data.eval = fit.name
    config.seed = seed
    for field, value in recipe.fields.items():
        part = config
        for key in field.split(".")[:-1]:
            part = part[key]
        part[field.split(".")[-1]] = value
    config.eval_every = min(config.steps, 500)
    check_config(config)
    return config


def name_of(recipe: Recipe, config: ConfigDict, fit: FeatureTable) -> str:
    """A short hash of everything a recipe's descriptors depend on, except the protocols and the code."""
    fields = config.to_dict()
    fields["data"] |= {"train": fit.fingerprint(), "eval": ""}
    parts = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    parts |= {"fields": fields, "base": "", "start": dataclasses.asdict(recipe.start)}
    text = json.dumps(parts, sort_keys=True, default=lambda value: value.__name__)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def descriptors(
    recipe: Recipe,
    fit: FeatureTable,
    degraded: set[int],
    protocols: list[Templates],
    folder: pathlib.Path,
    seed: int,
) -> dict[str, np.ndarray]:
    """Descriptors of each protocol, {protocol: [T, D]}; trains the recipe unless `folder` has them."""
    cache, name = folder / "descriptors.npz", name_of(recipe, make_config(recipe, fit, seed), fit)
    cached = dict(np.load(cache)) if cache.exists() else {}
    if cached and str(cached.pop("recipe", "")) != name:
        raise SystemExit(f"{cache}: was made by another recipe or from other faces; give another --workdir")
    if set(cached) != {one.name for one in protocols}:
        norms = standard(fit.norms, fit.norms) if recipe.standardised else fit.norms
        table = dataclasses.replace(fit, norms=norms)
        runs = []
        for run in range(recipe.runs):
            config = make_config(recipe, fit, seed + 100 * run)
            faces, model = faces_of_table(config, table, data_mesh()), make_model(recipe, config)
            if recipe.degraded:
                faces = degraded_in_features(faces, table, degraded, config.seed)
            workdir = folder / str(run) if recipe.runs > 1 else folder
            workdir.mkdir(parents=True, exist_ok=True)
            train(config, workdir, faces, model, recipe.start)
            runs.append(read_params(workdir)[0])
        params = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *runs)
        found = {}
        for one in protocols:
            sets = one.sets
            if recipe.standardised:
                sets = sets._replace(norms=standard(sets.norms, fit.norms))
            sets = sets._replace(norms=sets.norms * np.float32(faces.norm_scale))
            found[one.name] = describe_one(model, {"params": params}, sets).vectors
        with cache.with_suffix(".part").open("wb") as file:
            np.savez(file, recipe=name, **found)
        cache.with_suffix(".part").replace(cache)
        return found
    return cached


class Figure(NamedTuple):
    """TAR at each of FARS, overall and in each resample of the subjects; NaN with too few impostors."""

    tar: np.ndarray  # [F]
    draws: np.ndarray  # [F, R]


def figure(vectors: np.ndarray, one: Templates) -> Figure:
    """TAR of a protocol's descriptors."""
    scores = pair_scores(vectors, one.pairs)
    tar = np.array([point.tar for point in operating_points(scores, one.pairs.same, FARS)], float)
    drawn = one.draws(scores, FARS, area=False)
    missing = np.full(len(drawn.eer), np.nan)
    return Figure(tar, np.stack([drawn.tar.get(far, missing) for far in FARS]))


def pooled(models: dict[str, nn.Module], one: Templates) -> dict[str, np.ndarray]:
    """Descriptors of plain poolings."""
    return {name: out.vectors for name, out in describe(models, {}, one.sets).items()}


def best_settings(fits: list[list[Templates]]) -> dict[str, nn.Module]:
    """The setting of each pooling with the highest sum of TARs on training people."""
    chosen = {}
    for kind, settings in poolings().items():
        total = dict.fromkeys(settings, 0.0)
        for one in (one for protocols in fits for one in protocols) if len(settings) > 1 else ():
            for name, vectors in pooled(settings, one).items():
                total[name] += np.nansum(figure(vectors, one).tar)
        best = max(total, key=total.get)
        chosen[f"{kind} ({best})" if best else kind] = settings[best]
    return chosen


def mean_of(figures: list[Figure]) -> Figure:
    """The mean over splits or seeds."""
    return Figure(*(np.mean(parts, axis=0) for parts in zip(*figures, strict=True)))


def show(
    found: dict[str, dict[str, Figure]], plain: list[str], protocols: list[list[Templates]], rivals: list[str]
) -> None:
    """Prints one table per protocol, each method compared with the best of the rivals.

    Args:
      found: {method: {protocol: figure}}.
      plain: methods that are plain poolings, listed first.
      protocols: of each split or seed.
      rivals: methods to compare with.
    """
    for place, one in enumerate(protocols[0]):
        splits = {id(split): split for split in protocols}.values()  # seeds share their protocols
        pairs = sum(int(split[place].pairs.same.sum()) for split in splits)
        people = sum(len(np.unique(split[place].subjects)) for split in splits)
        table = Table(title=f"{one.name}: {pairs:,} genuine pairs of {people:,} people", title_justify="left")
        table.add_column("")
        for far in FARS:
            for title in (f"TAR@{far_name(far)}", "to the rival"):
                table.add_column(title, justify="right")
        best = [max(rivals, key=lambda name: found[name][one.name].tar[f]) for f in range(len(FARS))]
        for name, figures in found.items():
            cells = []
            for f in range(len(FARS)):
                tested, other = figures[one.name], found[best[f]][one.name]
                if np.isnan(tested.tar[f]):
                    cells += ["-", "-"]
                    continue
                cells.append(f"{tested.tar[f]:.4f}")
                low, high = interval(tested.draws[f] - other.draws[f])
                rival = "the rival" if name == best[f] else ""
                cells.append(rival or f"{tested.tar[f] - other.tar[f]:+.4f} ({low:+.4f}, {high:+.4f})")
            table.add_row(name, *cells, end_section=name == plain[-1])
        Console(width=120).print(table)


def main() -> None:
    """Trains and compares; see the module docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", required=True, type=pathlib.Path)
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--evaluate", nargs="+", type=pathlib.Path, default=[])
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument(
        "--rival",
        choices=list(RECIPES),
        help="compare with this recipe of --only instead of the best pooling",
    )
    parser.add_argument("--crowds", type=int, default=2, help="most crowded templates per person")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--resamples", type=int, default=500)
    arguments = parser.parse_args()

    if arguments.rival and arguments.rival not in arguments.only:
        parser.error(f"--rival {arguments.rival} is not among --only")
    if arguments.crowds < 2 or (arguments.crowds > 2 and arguments.evaluate):
        parser.error("--crowds must be at least 2, and larger values do not combine with --evaluate")
    table = read_features(arguments.train)
    table = dataclasses.replace(table, paths=np.arange(len(table)), name=str(arguments.train))
    degraded = degraded_rows(arguments.train)
    if not degraded:
        arguments.only = [name for name in arguments.only if not RECIPES[name].degraded]
    fits, protocols, settings = [], [], []
    for repeat in range(arguments.repeats):
        if arguments.evaluate:
            fit, same_for_all_seeds = table, protocols[0] if protocols else None
            tables = [read_features(path) for path in arguments.evaluate]
            names = [path.stem for path in arguments.evaluate]
            made = same_for_all_seeds or [
                protocol(one, name, arguments.resamples) for one, name in zip(tables, names, strict=True)
            ]
        else:
            fit, held = split_people(table, 0.2, seed=repeat)
            made = study(held, degraded, arguments.resamples, arguments.crowds)
        fits.append(fit)
        protocols.append(made)
        if not settings or not arguments.evaluate:
            settings.append(study(split_people(fit, 0.25, seed=0)[1], degraded, 0, arguments.crowds))
    plain = best_settings(settings)

    found: dict[str, dict[str, Figure]] = {}
    study_kind = "study" if arguments.crowds == 2 else f"crowds_{arguments.crowds}"
    kind = "report" if arguments.evaluate else study_kind
    for name, model in plain.items():
        by_protocol = [[figure(pooled({name: model}, one)[name], one) for one in made] for made in protocols]
        found[name] = {
            one.name: mean_of([figures[place] for figures in by_protocol])
            for place, one in enumerate(protocols[0])
        }
    for name in arguments.only:
        repeats = []
        for repeat, (fit, made) in enumerate(zip(fits, protocols, strict=True)):
            StepProgress.say(f"{name}, {repeat + 1} of {arguments.repeats}")
            plain_name = "".join(letter if letter.isalnum() else "_" for letter in name)
            folder = arguments.workdir / kind / plain_name / str(repeat)
            vectors = descriptors(RECIPES[name], fit, degraded, made, folder, repeat)
            repeats.append([figure(vectors[one.name], one) for one in made])
        found[name] = {
            one.name: mean_of([figures[place] for figures in repeats])
            for place, one in enumerate(protocols[0])
        }
    show(found, list(plain), protocols, [arguments.rival] if arguments.rival else list(plain))


if __name__ == "__main__":
    main()
