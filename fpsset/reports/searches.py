"""Writes an evaluation of searches: results.json, tables in three forms, pictures, and a page."""

import pathlib
from typing import NamedTuple

from fpsset.evaluation.metric_names import (
    Figure,
    Number,
    flatten,
    identification_figures,
    open_and_closed_set,
)
from fpsset.evaluation.resampling import Estimate
from fpsset.evaluation.searches import OURS, SearchEvaluation, SearchFigures
from fpsset.reports.folders import replacing_report
from fpsset.reports.forms import write_tables
from fpsset.reports.pages import write_page
from fpsset.reports.pictures import Picture, draw_curves
from fpsset.reports.tables import INTERVALS, Section, tables
from fpsset.runtime.files import write_json

_RETRIEVAL = "retrieval@"
_MEAN_PRECISION = "mean_ap"
_BRIEF = ("retrieval@1", _MEAN_PRECISION, "rank@1", "rank@5", "rank@20", "tpir@fpir=1e-2")


class About(NamedTuple):
    """What was evaluated."""

    protocol: str
    model: str  # as the user named it

    def title(self, task: str = "") -> str:
        """A heading; `task` in words."""
        return f"{', '.join(filter(None, (self.protocol, task)))}; fpsset is {self.model}"


def search_figures(found: SearchFigures) -> dict[str, Figure]:
    """Name -> figure."""
    figures: dict[str, Figure] = {"listed_probes": found.listed, "listed_mated_probes": found.listed_mated}
    named = identification_figures(found.identification)
    figures |= {name: figure for name, figure in named.items() if not name.startswith("merged_")}
    return figures | _of_protocol(found)


def search_sections(found: SearchEvaluation, about: About, brief: bool = False) -> list[Section]:
    """The tables, a section per task.

    Args:
      found: the evaluation.
      about: what was evaluated.
      brief: one table a task, which fits a terminal.
    """
    made = []
    for task, methods in found.figures.items():
        shown = {m: _of_protocol(f) | _determined(f, methods[OURS]) for m, f in methods.items()}
        if brief:
            shown = {
                m: {name: f for name, f in named.items() if name in _BRIEF} for m, named in shown.items()
            }
        made.append(
            Section(
                task,
                about.title(),
                tables(_heading(task), shown),
                _note(methods[OURS]),
                {method: search_figures(figures) for method, figures in methods.items()},
            )
        )
    return made


def write_search_report(
    workdir: pathlib.Path, found: SearchEvaluation, about: About, facts: dict[str, str]
) -> None:
    """Writes results.json, {task: {method: {name: number}}}, and report/ as other evaluations do.

    Args:
      workdir: to write to; created if missing.
      found: the evaluation.
      about: what was evaluated.
      facts: name -> value, for the page.

    Raises:
      InputError: the disk is full, or the folder cannot be written to.
    """
    made = search_sections(found, about)
    names = [f"{kind}_{task}" for task in found.figures for kind in ("cmc", "dir")]
    with replacing_report(workdir / "report", others=(tuple(found.figures), tuple(names))) as report:
        write_tables(report, made)
        pictures = [picture for task in found.figures for picture in _draw(report, found, task, about)]
        summary = [_summary(task, methods) for task, methods in found.figures.items()]
        headings = {task: _heading(task) for task in found.figures}
        write_page(report / "index.html", about.title(), summary, made, pictures, facts, {}, headings)
    write_json(workdir / "results.json", search_results(made))


def search_results(made: list[Section]) -> dict[str, dict[str, dict[str, Number]]]:
    """The content of results.json: {task: {method: {name: number}}}."""
    return {
        section.name: {method: flatten(figures) for method, figures in section.figures.items()}
        for section in made
    }


def _summary(task: str, methods: dict[str, SearchFigures]) -> str:
    """One sentence: the share found first, by the model and by the best of the others."""
    first = {method: figures.identification.ranks[1] for method, figures in methods.items()}
    ours = first.pop(OURS)
    best = max(first, key=lambda method: first[method].value or 0.0)
    return f"{_heading(task)}: rank 1 for {ours} of the mated probes; {best}, the best other: {first[best]}."


def _of_protocol(found: SearchFigures) -> dict[str, Estimate]:
    """The figures that only some protocols have."""
    figures = {f"{_RETRIEVAL}{rank}": rate for rank, rate in found.retrieval.items()}
    return figures | ({_MEAN_PRECISION: found.mean_precision} if found.mean_precision else {})


def _determined(found: SearchFigures, ours: SearchFigures) -> dict[str, Estimate]:
    """Ranks, and TPIRs where there are probes without a mate to set the threshold."""
    figures = open_and_closed_set(found.identification)
    known = open_and_closed_set(ours.identification)
    return {name: figure for name, figure in figures.items() if known[name].value is not None}


def _note(found: SearchFigures) -> str:
    counts = found.identification
    note = (
        f"{found.listed} probes are listed, {found.listed_mated} of them mated; {counts.probes} have faces, "
        f"{counts.mated_probes} of them and a mate too; {counts.gallery} gallery templates have faces"
    )
    if found.retrieval:
        note += "; retrieval: of all mated probes that are listed, whether or not they have faces"
    if counts.ranks[1].interval:
        note += INTERVALS
    return note


def _draw(report: pathlib.Path, found: SearchEvaluation, task: str, about: About) -> list[Picture]:
    """CMC, and DIR against FAR where some probes have no mate."""
    counts = found.figures[task][OURS].identification
    above = f"{about.title(_words(task))}\n{counts.mated_probes} mated probes"
    curves = {kind: points for kind, points in found.curves[task].items() if points}
    return draw_curves(report, curves, dict.fromkeys(curves, (task, above)), f"_{task}")


def _words(task: str) -> str:
    return task.replace("_", " ").replace("uav", "UAV")


def _heading(task: str) -> str:
    words = _words(task)
    return words[0].upper() + words[1:]
