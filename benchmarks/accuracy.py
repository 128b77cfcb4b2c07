"""Which recipe recognises people best: trained on some of a file's people, compared on others.

python benchmarks/accuracy.py --train train.npz --workdir runs/accuracy
python benchmarks/accuracy.py --train train.npz --workdir runs/accuracy \\
    --evaluate a.npz b.npz --only best faithful

The first command compares recipes, for choosing: each of three splits holds out another fifth of the
people. Their faces make the protocols: `sets`, a person's media in two templates; `clips`, a template of
each seed's frames; where the file has a column `degraded`, `poor`, these without the frames that are not;
`large`, as `sets`, of people with six media and more and of such frames alone; `crowded`, of such frames
too, two templates (with --crowds up to a third of the media, so that there are more pairs) of up to three
media each and a dozen near-copies of one more, drawn between its frames. The second trains on all people of
the file, with three seeds, and reports on files.

Figures are means over splits or seeds. Poolings have the settings that do best on a quarter of the people
trained on; the rival is the one of them that does best on the very protocol. Intervals, 95%, are of the
difference to it, or to a recipe with --rival, on the same draws of the subjects. A run that was stopped goes
on by the same command; what another version of a recipe left in the workdir is refused.
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
    """What differs from the default.

    Attributes:
      fields: of the configuration.
      base: makes that.
      start: of the pooling to start from.
      model: in place of FaceCoresetNet; its attributes of the same names are set by the configuration.
      attributes: of the model beside those.
      standardised: bring the norms to a mean of 20 and a deviation of 5, AdaFace's; else to the mean alone.
      degraded: degrade faces in training, in feature space.
      runs: of other seeds, whose weights are averaged; they start at nearly the same.
    """

    fields: dict = dataclasses.field(default_factory=dict)
    base: Callable[[], ConfigDict] = base_config
    start: ClosedForm = _START
    model: type[nn.Module] = FaceCoresetNet
    attributes: dict = dataclasses.field(default_factory=dict)
    standardised: bool = False
    degraded: bool = False
    runs: int = 1


# With 4,000 people the published rate and length leave a peer near its start.
_PEER = {"steps": 2000, "optimizer.milestones": (1500,), "optimizer.learning_rate": 1e-3}
# Training moves little from the start, so that parts of it are left out of the start alone.
_START_ALONE = {"steps": 1}
_NOT_TOLD = {"model.by_media": False}


def _picks(count: int) -> dict:
    return _START_ALONE | {"model.coreset_size": count}


RECIPES = {
    "best": Recipe(),
    "random picks": Recipe(model=PicksByScore, attributes={"score": noise_of}),
    "top-norm picks": Recipe(model=PicksByScore, attributes={"score": norm_of}),
    "media not told": Recipe(_NOT_TOLD),
    "not told, random picks": Recipe(_NOT_TOLD, model=PicksByScore, attributes={"score": noise_of}),
    "not told, top-norm picks": Recipe(_NOT_TOLD, model=PicksByScore, attributes={"score": norm_of}),
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
    "start alone": Recipe(_START_ALONE),
    "start, media not told": Recipe(_START_ALONE | _NOT_TOLD),
    "start, no quality": Recipe(_START_ALONE, start=ClosedForm(sharpness=0.0)),
    "start, no likeness": Recipe(_START_ALONE, start=ClosedForm(likeness=0.0)),
    "start, no whitening": Recipe(_START_ALONE, start=ClosedForm(shrinkage=1.0)),
    "start, whole set x 1": Recipe(_START_ALONE, start=ClosedForm(seen=1.0)),
    "start, gamma .35": Recipe(_START_ALONE | {"model.gamma": 0.35}),
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
    """Norms by the mean and the deviation of others: [M] float32, at least a twentieth of the mean."""
    return np.maximum(20 + 5 * (norms - of.mean()) / of.std(), 1).astype(np.float32)


def make_config(recipe: Recipe, fit: FeatureTable, seed: int) -> ConfigDict:
    """The configuration of a recipe."""
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
    """A short hash of all that a recipe's descriptors depend on, the protocols and the code apart."""
    fields = config.to_dict()
    fields["data"] |= {"train": fit.fingerprint(), "eval": ""}
    parts = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    parts |= {"fields": fields, "base": "", "start": dataclasses.asdict(recipe.start)}
    told = json.dumps(parts, sort_keys=True, default=lambda value: value.__name__)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def descriptors(
    recipe: Recipe,
    fit: FeatureTable,
    degraded: set[int],
    protocols: list[Templates],
    folder: pathlib.Path,
    seed: int,
) -> dict[str, np.ndarray]:
    """Trains a recipe unless its descriptors are there: {protocol: [T, D]}."""
    kept, name = folder / "descriptors.npz", name_of(recipe, make_config(recipe, fit, seed), fit)
    there = dict(np.load(kept)) if kept.exists() else {}
    if there and str(there.pop("recipe", "")) != name:
        raise SystemExit(f"{kept}: is of another recipe or other faces; give another --workdir")
    if set(there) != {one.name for one in protocols}:
        norms = standard(fit.norms, fit.norms) if recipe.standardised else fit.norms
        seen = dataclasses.replace(fit, norms=norms)
        runs = []
        for run in range(recipe.runs):
            config = make_config(recipe, fit, seed + 100 * run)
            faces, model = faces_of_table(config, seen, data_mesh()), make_model(recipe, config)
            if recipe.degraded:
                faces = degraded_in_features(faces, seen, degraded, config.seed)
            place = folder / str(run) if recipe.runs > 1 else folder
            place.mkdir(parents=True, exist_ok=True)
            train(config, place, faces, model, recipe.start)
            runs.append(read_params(place)[0])
        params = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *runs)
        found = {}
        for one in protocols:
            sets = one.sets
            if recipe.standardised:
                sets = sets._replace(norms=standard(sets.norms, fit.norms))
            sets = sets._replace(norms=sets.norms * np.float32(faces.norm_scale))
            found[one.name] = describe_one(model, {"params": params}, sets).vectors
        with kept.with_suffix(".part").open("wb") as file:
            np.savez(file, recipe=name, **found)
        kept.with_suffix(".part").replace(kept)
        return found
    return there


class Figure(NamedTuple):
    """TAR at each FAR, and in each draw of the subjects; NaN where there are too few impostors."""

    tar: np.ndarray  # [F]
    draws: np.ndarray  # [F, R]


def figure(vectors: np.ndarray, one: Templates) -> Figure:
    """Of the descriptors of a protocol."""
    scores = pair_scores(vectors, one.pairs)
    tar = np.array([point.tar for point in operating_points(scores, one.pairs.same, FARS)], float)
    drawn = one.draws(scores, FARS, area=False)
    missing = np.full(len(drawn.eer), np.nan)
    return Figure(tar, np.stack([drawn.tar.get(far, missing) for far in FARS]))


def pooled(models: dict[str, nn.Module], one: Templates) -> dict[str, np.ndarray]:
    """Descriptors of plain poolings."""
    return {name: out.vectors for name, out in describe(models, {}, one.sets).items()}


def best_settings(fits: list[list[Templates]]) -> dict[str, nn.Module]:
    """Each pooling's setting with the highest sum of TARs on the people trained on."""
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
    """Over splits or seeds."""
    return Figure(*(np.mean(parts, axis=0) for parts in zip(*figures, strict=True)))


def show(
    found: dict[str, dict[str, Figure]], plain: list[str], protocols: list[list[Templates]], rivals: list[str]
) -> None:
    """A table a protocol: {method: {protocol: figure}}; each is compared with the best of the rivals."""
    for place, one in enumerate(protocols[0]):
        splits = {id(split): split for split in protocols}.values()  # seeds have the same
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
                mine, other = figures[one.name], found[best[f]][one.name]
                if np.isnan(mine.tar[f]):
                    cells += ["-", "-"]
                    continue
                cells.append(f"{mine.tar[f]:.4f}")
                low, high = interval(mine.draws[f] - other.draws[f])
                rival = "the rival" if name == best[f] else ""
                cells.append(rival or f"{mine.tar[f] - other.tar[f]:+.4f} ({low:+.4f}, {high:+.4f})")
            table.add_row(name, *cells, end_section=name == plain[-1])
        Console(width=120).print(table)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", required=True, type=pathlib.Path)
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--evaluate", nargs="+", type=pathlib.Path, default=[])
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--rival", choices=list(RECIPES), help="of --only, in place of the best pooling")
    parser.add_argument("--crowds", type=int, default=2, help="crowded templates of a person, at most")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--resamples", type=int, default=500)
    arguments = parser.parse_args()

    if arguments.rival and arguments.rival not in arguments.only:
        parser.error(f"--rival {arguments.rival} is not among --only")
    if arguments.crowds < 2 or (arguments.crowds > 2 and arguments.evaluate):
        parser.error("--crowds is 2 or more, and of the held-out people alone")
    table = read_features(arguments.train)
    table = dataclasses.replace(table, paths=np.arange(len(table)), name=str(arguments.train))
    degraded = degraded_rows(arguments.train)
    if not degraded:
        arguments.only = [name for name in arguments.only if not RECIPES[name].degraded]
    fits, protocols, settings = [], [], []
    for repeat in range(arguments.repeats):
        if arguments.evaluate:
            fit, small = table, protocols[0] if protocols else None
            tables = [read_features(path) for path in arguments.evaluate]
            names = [path.stem for path in arguments.evaluate]
            made = small or [
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
