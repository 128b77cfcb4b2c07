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
import pathlib
from collections.abc import Sequence

import numpy as np
from accuracy_methods import (
    CONFIGS,
    DEFAULT,
    FEW,
    MANY,
    fitted_rivals,
    parts,
    plain,
    recipes,
    respecting_media,
    trained,
)
from accuracy_protocols import FARS, Figure, Protocol, combined, degraded_rows, protocol, study
from peers import PEERS
from rich.console import Console
from rich.table import Table
from timing import machine

from fpsset.data.feature_table import FeatureTable, split_people
from fpsset.data.files import read_features
from fpsset.evaluation.metric_names import far_name
from fpsset.runtime.progress import StepProgress
from fpsset.training.closed_form import fit_posterior

SPLITS = 3


def best_of(settings: dict[str, Figure]) -> tuple[Figure, list[str]]:
    """The best figure at each FAR, and the settings that give it."""
    names = list(settings)
    places = range(len(settings[names[0]].tar))
    best = [max(names, key=lambda name: np.nan_to_num(settings[name].tar[f])) for f in places]
    columns = [(settings[name].tar[f], settings[name].draws[f]) for f, name in enumerate(best)]
    return Figure(*(np.stack(parts) for parts in zip(*columns, strict=True))), best


def show(
    title: str, kinds: dict[str, dict[str, Figure]], plain_kinds: list[str], fars: Sequence[float] = FARS
) -> None:
    """Prints a table: TAR of each kind with its best settings, and the default minus it.

    Args:
      title: of the table.
      kinds: {kind: {setting: figure}}, DEFAULT among them.
      plain_kinds: those that make up the row of the best plain pooling, listed after it.
      fars: of the figures.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for far in fars:
        for column in (f"TAR@{far_name(far)}", "default minus it"):
            table.add_column(column, justify="right")
    rows = {kind: best_of(settings) for kind, settings in kinds.items()}
    default = rows[DEFAULT][0]
    all_plain = {(kind, name): figure for kind in plain_kinds for name, figure in kinds[kind].items()}
    rows["best plain pooling here"] = best_of(all_plain)[0], [""] * len(fars)
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
        for far in one.everyone.fars:
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
        protocol(read_features(path), path.stem, arguments.resamples, with_halves=True, fars=arguments.fars)
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
            arguments.fars,
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
    parser.add_argument("--fars", nargs="+", type=float, default=FARS, help="with --evaluate")
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
