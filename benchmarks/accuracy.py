"""Which recipe recognises people best: trained on some of a file's people, compared on others.

python benchmarks/accuracy.py --train train.npz --workdir runs/accuracy
python benchmarks/accuracy.py --train train.npz --workdir runs/accuracy \\
    --evaluate a.npz b.npz --only best faithful

The first command compares recipes, for choosing: each of three splits holds out another fifth of the
people. Their faces make the protocols: `sets`, a person's media in two templates; `clips`, a template of
each seed's frames; where the file has a column `degraded`, `poor`, these without the frames that are not;
`large`, as `sets`, of people with six media and more and of such frames alone; `crowded`, of such frames
too, two templates of up to three media and a dozen near-copies of one more, drawn between its frames. The
second trains on all people of the file, with three seeds, and reports on files.

Figures are means over splits or seeds. Poolings have the settings that do best on a quarter of the people
trained on; the rival is the one of them that does best on the very protocol. Intervals, 95%, are of the
difference to it, on the same draws of the subjects. A run that was stopped goes on by the same command.
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from accuracy_protocols import Templates, degraded_rows, protocol, study
from flax import linen as nn
from ml_collections import ConfigDict
from peers import CafaceLike, Nan, PicksByScore, noise_of, norm_of, poolings
from rich.console import Console
from rich.table import Table

from fpsset.config import base_config, check_config, published_config
from fpsset.data.feature_table import FeatureTable, split_people
from fpsset.data.files import read_features
from fpsset.descriptors import describe
from fpsset.evaluation.intervals import interval
from fpsset.evaluation.scoring import pair_scores
from fpsset.evaluation.verification import far_name, operating_points
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.parallel.mesh import data_mesh
from fpsset.progress import StepProgress
from fpsset.training.faces import faces_of_table
from fpsset.training.loop import train
from fpsset.training.start import Start
from fpsset.training.trained import read_params

FARS = (1e-3, 1e-4)
_START = Start()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What differs from the default.

    Attributes:
      fields: of the configuration.
      base: makes that.
      start: of the pooling to start from.
      model: in place of FaceCoresetNet; its attributes of the same names are set by the configuration.
    """

    fields: dict = dataclasses.field(default_factory=dict)
    base: Callable[[], ConfigDict] = base_config
    start: Start = _START
    model: type[nn.Module] = FaceCoresetNet
    attributes: dict = dataclasses.field(default_factory=dict)


# Parts are left out at the exponent of the norm that the paper's training arrives at.
_PAPER = {"model.gamma": 0.35}
# With 4,000 people the published rate and length leave a peer near its start.
_PEER = {"steps": 2000, "optimizer.milestones": (1500,), "optimizer.learning_rate": 1e-3}
RECIPES = {
    "best": Recipe(),
    "start alone": Recipe({"steps": 1}),
    # These three have no use for gamma.
    "random picks": Recipe(_PAPER, model=PicksByScore, attributes={"score": noise_of}),
    "top-norm picks": Recipe(_PAPER, model=PicksByScore, attributes={"score": norm_of}),
    "K 1": Recipe(_PAPER | {"model.coreset_size": 1}),
    "gamma .35": Recipe(_PAPER),
    ".35, no quality": Recipe(_PAPER, start=Start(sharpness=0.0)),
    ".35, no likeness": Recipe(_PAPER, start=Start(likeness=0.0)),
    ".35, no whitening": Recipe(_PAPER, start=Start(shrinkage=1.0)),
    ".35, random start": Recipe(_PAPER | {"model.start": "random", "optimizer.learning_rate": 1e-4}),
    ".35, classes trained": Recipe(_PAPER | {"head.trained": True}),
    ".35, margin .8": Recipe(_PAPER | {"head.margin": 0.8}),
    ".35, scores x 30": Recipe(_PAPER | {"model.score_scale": (1.0, 30.0)}),
    "NAN": Recipe(_PEER, published_config, model=Nan),
    "CAFace-like": Recipe(_PEER, published_config, model=CafaceLike),
    "faithful": Recipe(base=published_config),
}


def make_model(recipe: Recipe, config) -> nn.Module:
    """The set model of a recipe."""
    if not issubclass(recipe.model, FaceCoresetNet):
        return recipe.model()
    model = config.model
    return recipe.model(
        model.coreset_size,
        model.num_heads,
        model.dropout_rate,
        model.gamma,
        model.quality,
        **recipe.attributes,
    )


def descriptors(name: str, fit: FeatureTable, protocols: list[Templates], folder: pathlib.Path, seed: int):
    """Trains a recipe unless its descriptors are there: {protocol: [T, D]}."""
    kept = folder / "descriptors.npz"
    there = set(np.load(kept).files) if kept.exists() else set()
    if there != {one.name for one in protocols}:
        recipe = RECIPES[name]
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
        faces, model = faces_of_table(config, fit, data_mesh()), make_model(recipe, config)
        folder.mkdir(parents=True, exist_ok=True)
        train(config, folder, faces, model, recipe.start)
        variables = {name: {"params": read_params(folder)[0]}}
        found = {}
        for one in protocols:
            sets = one.sets._replace(norms=one.sets.norms * np.float32(faces.norm_scale))
            found[one.name] = describe({name: model}, variables, sets)[name].vectors
        with kept.with_suffix(".part").open("wb") as file:
            np.savez(file, **found)
        kept.with_suffix(".part").replace(kept)
    return dict(np.load(kept))


class Figure(NamedTuple):
    """TAR at each FAR, and in each draw of the subjects; NaN where there are too few impostors."""

    tar: np.ndarray  # [F]
    draws: np.ndarray  # [F, R]


def figure(vectors: np.ndarray, one: Templates) -> Figure:
    """Of the descriptors of a protocol."""
    scores = pair_scores(vectors, one.pairs)
    tar = np.array([point.tar for point in operating_points(scores, one.pairs.same, FARS)], float)
    drawn = one.draws(scores, FARS, area=False)
    missing = np.full(len(next(iter(drawn.values()), ())), np.nan)
    return Figure(tar, np.stack([drawn.get(f"tar@far={far_name(far)}", missing) for far in FARS]))


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


def show(found: dict[str, dict[str, Figure]], rivals: list[str], protocols: list[list[Templates]]) -> None:
    """A table a protocol: {method: {protocol: figure}}."""
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
            table.add_row(name, *cells, end_section=name == rivals[-1])
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
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--resamples", type=int, default=500)
    arguments = parser.parse_args()

    table = read_features(arguments.train)
    table = dataclasses.replace(table, paths=np.arange(len(table)), name=str(arguments.train))
    degraded = degraded_rows(arguments.train)
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
            made = study(held, degraded, arguments.resamples)
        fits.append(fit)
        protocols.append(made)
        if not settings or not arguments.evaluate:
            settings.append(study(split_people(fit, 0.25, seed=0)[1], degraded, 0))
    plain = best_settings(settings)

    found: dict[str, dict[str, Figure]] = {}
    kind = "report" if arguments.evaluate else "study"
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
            vectors = descriptors(name, fit, made, folder, repeat)
            repeats.append([figure(vectors[one.name], one) for one in made])
        found[name] = {
            one.name: mean_of([figures[place] for figures in repeats])
            for place, one in enumerate(protocols[0])
        }
    show(found, list(plain), protocols)


if __name__ == "__main__":
    main()
