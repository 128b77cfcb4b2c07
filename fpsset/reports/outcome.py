"""What a run ends with: a verdict, one table of the figures that matter, and where everything else is."""

import pathlib
import shutil
import sys
from typing import NamedTuple

from fpsset.evaluation.metric_names import far_name, tar_name, to_json
from fpsset.evaluation.resampling import Estimate
from fpsset.evaluation.results import Evaluation
from fpsset.evaluation.verification import FARS
from fpsset.reports.forms import as_text
from fpsset.reports.tables import Section
from fpsset.runtime.escapes import plain_console, printable, show

OURS = "fpsset"
_ENOUGH = 30  # impostor pairs that decide a figure, for it to be in the verdict
_PLAIN_WIDTH = 80  # columns where stdout is not a terminal
_LABEL_WIDTH = 15
_GAP = 2


class Column(NamedTuple):
    """A figure of every method, the higher the better."""

    heading: str
    figures: dict[str, Estimate]  # by method

    def best(self) -> set[str]:
        """The methods that show the highest figure, as printed."""
        shown = {method: _cell(figure) for method, figure in self.figures.items()}
        values = [figure.value for figure in self.figures.values() if figure.value is not None]
        highest = _cell(Estimate(max(values))) if values else None
        return {method for method, cell in shown.items() if cell == highest}


def verdict(found: Evaluation) -> str:
    """How the model compares with the best other method, in a sentence.

    It is about the lowest FAR whose threshold enough impostor pairs decide. Two methods are level where the
    95% interval of their paired difference includes zero.
    """
    far = _far_of_verdict(found)
    if far is None:
        count = found.verification[OURS].impostor_pairs
        return f"No verdict: {count:,} impostor pairs are too few for a FAR of {far_name(FARS[0])}."
    tars = {method: verified.points[far].tar for method, verified in found.verification.items()}
    others = [method for method in tars if method != OURS]
    rival = max(others, key=lambda method: tars[method].value)
    at, theirs = f"At FAR {far_name(far)}", _percent(tars[rival])
    ours = f"{OURS} accepts {_percent(tars[OURS])} of the genuine pairs, {rival}"
    difference = found.paired.get(f"{OURS} - {rival}", {}).get(tar_name(far))
    if difference is None or difference.interval is None:
        return f"{at}, {ours} {theirs}; how much of the difference is chance is not known."
    low, high = difference.interval
    words = f"{100 * difference.value:+.1f} points, 95% interval {100 * low:+.1f} to {100 * high:+.1f}"
    if low <= 0 <= high:
        return f"{at}, {OURS} and {rival} are level: {ours} {theirs}, a difference within chance ({words})."
    if low > 0:
        return f"{at}, {OURS} is better than the others: {ours}, the next best, {theirs} ({words})."
    return f"{at}, {rival} is better than {OURS}: {ours} {theirs} ({words})."


def outcome(found: Evaluation, workdir: pathlib.Path) -> dict:
    """What `print_outcome` says and all figures, for JSON."""
    return {
        "workdir": str(workdir),
        "verdict": verdict(found),
        "report": str(_page(workdir)),
        "results": str(workdir / "results.json"),
        **to_json(found),
    }


def print_outcome(found: Evaluation, made: list[Section], workdir: pathlib.Path, verbose: bool) -> None:
    """Prints the outcome: at most 25 lines, in colour only on a terminal.

    Args:
      found: the evaluation.
      made: its sections.
      workdir: that the report is in.
      verbose: print the tables of all sections before.
    """
    import rich.console

    width = terminal_width()
    if verbose:
        show("\n".join(as_text(section, width) for section in made))
    if sys.stdout.isatty():
        console = rich.console.Console(
            file=sys.stdout, width=width, markup=False, emoji=False, highlight=False
        )
    else:
        console = plain_console(sys.stdout, width)
    console.print(printable(verdict(found)), style="bold")
    console.print()
    _print_table(console, found, width)
    console.print()
    for name, path in (("report", _page(workdir)), ("results", workdir / "results.json")):
        console.print(f"{name:<8} {printable(path)}", soft_wrap=True)


def terminal_width() -> int:
    """Columns of the terminal; 80 if stdout is not one."""
    return shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns if sys.stdout.isatty() else _PLAIN_WIDTH


def _print_table(console, found: Evaluation, width: int) -> None:
    import rich.text

    columns = _columns(found)
    size = max(len(column.heading) for column in columns) + _GAP
    columns = columns[: max(1, (width - _LABEL_WIDTH) // size)]
    mark = "" if console.is_terminal and console.color_system else "*"  # where nothing can be bold
    best = [column.best() for column in columns]

    def row(label: str, cells: list[str], bold: list[bool], style: str = "") -> None:
        text = rich.text.Text(f"{printable(label):<{_LABEL_WIDTH}}", style=style)
        for cell, is_best in zip(cells, bold, strict=True):
            text.append(f"{cell + mark if is_best else cell:>{size}}", style="bold green" if is_best else "")
        console.print(text, soft_wrap=True)

    none = [False] * len(columns)
    row("", [column.heading for column in columns], none, "bold")
    for method in found.verification:
        cells = [_cell(column.figures.get(method)) for column in columns]
        row(method, cells, [method in methods for methods in best])
    row("achieved FAR", _achieved(found, len(columns)), none, "dim")
    verified = found.verification[OURS]
    counts = f"{verified.genuine_pairs:,} genuine and {verified.impostor_pairs:,} impostor pairs"
    console.print(f"{counts} of {verified.templates:,} templates" + ("; * the best" if mark else ""))


def _columns(found: Evaluation) -> list[Column]:
    """TAR at the FARs that the pairs allow, from 1e-2 down, and 1:N where there are galleries."""
    columns = [
        Column(f"TAR@{far_name(far)}", {m: v.points[far].tar for m, v in found.verification.items()})
        for far in _fars(found)
    ]
    if found.identification:
        any_method = next(iter(found.identification.values()))
        columns.append(Column("rank 1", {m: i.ranks[1] for m, i in found.identification.items()}))
        fpir = next((f for f, tpir in any_method.tpir.items() if tpir.value is not None), None)
        if fpir is not None:
            tpirs = {m: i.tpir[fpir] for m, i in found.identification.items()}
            columns.append(Column(f"TPIR@{far_name(fpir)}", tpirs))
    return columns or [Column("EER", {m: v.eer for m, v in found.verification.items()})]


def _fars(found: Evaluation) -> list[float]:
    known = [far for far in FARS if found.verification[OURS].points[far].tar.value is not None]
    return [far for far in known if far <= 1e-2] or known


def _far_of_verdict(found: Evaluation) -> float | None:
    """The lowest FAR that enough impostor pairs decide, or else the highest with a TAR."""
    known = _fars(found)
    decided = [far for far in known if far * found.verification[OURS].impostor_pairs >= _ENOUGH]
    return (decided or known[::-1] or [None])[-1]


def _achieved(found: Evaluation, count: int) -> list[str]:
    """The highest achieved FAR of any method, under each TAR."""
    verified = found.verification.values()
    highest = [max(one.points[far].achieved_far for one in verified) for far in _fars(found)[:count]]
    cells = [f"{far:.1e}" for far in highest]
    return cells + [""] * (count - len(cells))


def _cell(figure: Estimate | None) -> str:
    return "-" if figure is None or figure.value is None else f"{figure.value:z.4f}"


def _percent(figure: Estimate) -> str:
    return f"{100 * figure.value:.1f}%"


def _page(workdir: pathlib.Path) -> pathlib.Path:
    return workdir / "report" / "index.html"
