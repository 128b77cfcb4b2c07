"""Compares runs of one protocol, with differences on the same draws of the subjects."""

import pathlib

from fpsset.errors import InputError
from fpsset.reports.draws_file import Run
from fpsset.reports.folders import replacing_report
from fpsset.reports.forms import write_tables
from fpsset.reports.pages import write_page
from fpsset.reports.pictures import draw_curves, make_picture
from fpsset.reports.plots import draw_differences
from fpsset.reports.tables import INTERVALS, Section, tables

_REFERENCE = " (reference)"


def require_comparable(runs: list[Run]) -> None:
    """Raises InputError unless all runs share the protocol and the draws of its subjects."""
    first = runs[0]
    for other in runs[1:]:
        for key, what, fix in (
            (
                "protocol",
                "another protocol",
                "compare runs of the same templates, pairs, galleries and convention",
            ),
            (
                "draws",
                "other draws of the subjects",
                "evaluate both with the same config.evaluation.resamples and seed",
            ),
        ):
            if first.about[key] != other.about[key]:
                raise InputError(
                    f"{other.name}: was evaluated with {what} than {first.name} ({other.about[key]}, not "
                    f"{first.about[key]}); {fix}"
                )


def compare(runs: list[Run], method: str) -> Section:
    """Figures of one method of each run, and the differences from the first run's.

    Args:
      runs: two or more that `require_comparable` accepts.
      method: its name.
    """
    labels = _labels(runs)
    first = runs[0].figures[method]
    names = [name for name in first if all(name in run.figures[method] for run in runs)]
    each, differences = {}, {}
    for label, run in zip(labels, runs, strict=True):
        each[label] = {name: run.figures[method][name] for name in names}
        if run is not runs[0]:
            differences[f"{label} - {labels[0]}"] = {n: each[label][n] - first[n] for n in names}
    note = (
        f"the method {method} of each run, on the same draws of the subjects: a difference is significant if "
        "its interval excludes zero" + INTERVALS
    )
    named = {label + _REFERENCE * (label == labels[0]): figures for label, figures in each.items()}
    made = [*tables("Runs", named), *tables("Differences", differences, compared=False)]
    title = f"{labels[1]} against {labels[0]}" if len(runs) == 2 else f"{len(runs)} runs against {labels[0]}"
    return Section("comparison", title, made, note, each | differences)


def write_comparison(folder: pathlib.Path, runs: list[Run], made: Section, method: str) -> None:
    """Writes index.html, the tables in three forms, and the pictures.

    Args:
      folder: to write to; an earlier comparison in it is replaced, other files stay.
      runs: those compared.
      made: from `compare`.
      method: of each run.
    """
    with replacing_report(folder) as beside:
        _write_comparison(beside, runs, made, method)


def _write_comparison(folder: pathlib.Path, runs: list[Run], made: Section, method: str) -> None:
    write_tables(folder, [made])
    labels, title = _labels(runs), f"{method} of each run"
    differences = {name: figures for name, figures in made.figures.items() if name not in labels}
    caption = (
        f"Differences from {labels[0]}, with 95% intervals. To the right of zero a run has the higher "
        "figure, which is better except for the equal error rate."
    )
    path = folder / "differences.png"
    pictures = [make_picture(path, made.name, caption, draw_differences, differences, title)]
    shown = [labels[0] + _REFERENCE, *labels[1:]]
    curves = {
        kind: {label: run.curves[kind][method] for label, run in zip(shown, runs, strict=True)}
        for kind in runs[0].curves
        if all(kind in run.curves for run in runs)
    }
    pictures += draw_curves(folder, curves, dict.fromkeys(curves, (made.name, title)))
    facts = {f"{run.name}: {name}": value or "not known" for run in runs for name, value in run.about.items()}
    write_page(
        folder / "index.html", f"Comparison: {made.title}", _summary(runs, made), [made], pictures, facts, {}
    )


def _summary(runs: list[Run], made: Section) -> list[str]:
    """The opening paragraphs: what the reference is, and at which FARs each other run differs from it."""
    labels = _labels(runs)
    lines = [f"The reference is {labels[0]} ({runs[0].name}): every difference is that of a run from it."]
    for label in labels[1:]:
        differences = made.figures[f"{label} - {labels[0]}"]
        apart = {name: d for name, d in differences.items() if name.startswith("tar@") and d.interval}
        apart = {name: d for name, d in apart.items() if d.interval.low > 0 or d.interval.high < 0}
        if not apart:
            lines.append(f"{label} and {labels[0]} are level: every TAR differs within chance.")
            continue
        words = ", ".join(f"{d.value:+.4f} in {name}" for name, d in apart.items())
        lines.append(f"{label} differs from {labels[0]} beyond chance: {words}.")
    return lines


def _labels(runs: list[Run]) -> list[str]:
    """The last part of each run's path, or the whole paths if those parts are not distinct."""
    names = [run.name for run in runs]
    short = [pathlib.Path(name).resolve().name for name in names]
    return short if len(set(short)) == len(short) else names
