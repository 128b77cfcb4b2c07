"""Tables as text for a terminal, CSV for programs and LaTeX for papers."""

import csv
import io
import pathlib
import re
from collections.abc import Iterator

from fpsset.evaluation.resampling import Estimate
from fpsset.reports.tables import Cell, Section, Table
from fpsset.runtime.escapes import csv_cell, latex, plain_console, printable
from fpsset.runtime.files import replacing

# Lines and blanks around a column of figures, and around the labels.
_COLUMN_BORDERS, _LABEL_BORDERS = 3, 4


def write_tables(folder: pathlib.Path, made: list[Section]) -> None:
    """Writes each section as .txt, .csv and .tex."""
    for section in made:
        for suffix, form in FORMS.items():
            with replacing(folder / f"{section.name}.{suffix}") as partial:
                partial.write_text(form(section))


def as_text(section: Section, width: int = 80) -> str:
    """Tables for a terminal.

    Args:
      section: of the tables.
      width: columns of the terminal; a table that is wider is continued below.
    """
    import rich.table

    buffer = io.StringIO()
    console = plain_console(buffer, width)
    for table in section.tables:
        title = printable(f"{table.title}, {section.title}")
        for columns in _that_fit(table, width):
            drawn = rich.table.Table(title=title, title_justify="left")
            drawn.add_column("method")
            for column in columns:
                name = printable(table.columns[column]).replace("@", "\n@ ")
                drawn.add_column(name, justify="right", no_wrap=True)
            for rows in (table.rows, table.foot):
                for label, cells in rows:
                    shown = ("\n".join(filter(None, cells[column])) for column in columns)
                    drawn.add_row(printable(label), *shown)
                drawn.add_section()
            console.print(drawn)
    console.print(printable(section.note))
    return buffer.getvalue()


def _that_fit(table: Table, width: int) -> Iterator[range]:
    """The columns of a table, as many at a time as fit beside the labels."""
    rows = (*table.rows, *table.foot)
    room = width - max(len(label) for label, _ in rows) - _LABEL_BORDERS
    start, used = 0, 0
    for column, name in enumerate(table.columns):
        parts = [
            *name.replace("@", "\n@ ").split("\n"),
            *(part for _, cells in rows for part in cells[column]),
        ]
        size = max(map(len, parts)) + _COLUMN_BORDERS
        if column > start and used + size > room:
            yield range(start, column)
            start, used = column, 0
        used += size
    yield range(start, len(table.columns))


def as_csv(section: Section) -> str:
    """A line per figure: method, figure, value, low, high; unrounded.

    A method whose name a spreadsheet would take for a formula gets an apostrophe in front.
    """
    buffer = io.StringIO()
    lines = csv.writer(buffer, lineterminator="\n")
    lines.writerow(["method", "figure", "value", "low", "high"])
    for method, figures in section.figures.items():
        for name, figure in figures.items():
            value, ends = figure, None
            if isinstance(figure, Estimate):
                value, ends = figure.value, figure.interval
            lines.writerow(
                [csv_cell(method), csv_cell(name), "" if value is None else value, *(ends or ("", ""))]
            )
    return buffer.getvalue()


def figures_to_json(section: Section) -> dict:
    """method -> figure -> value, low and high; unrounded."""
    found = {}
    for method, figures in section.figures.items():
        found[method] = {}
        for name, figure in figures.items():
            low, high = figure.interval or (None, None)
            found[method][name] = {"value": figure.value, "low": low, "high": high}
    return found


def as_latex(section: Section) -> str:
    """A tabular per table, for booktabs: the best in bold, intervals in a smaller row below the figures."""
    parts = []
    for table in section.tables:
        count = len(table.columns)
        lines = [
            f"% {printable(f'{table.title}, {section.title}')}",
            rf"\begin{{tabular}}{{l{'r' * count}}}",
            r"\toprule",
            rf" & \multicolumn{{{count}}}{{c}}{{{latex(table.title)}}} \\",
            rf"\cmidrule(l){{2-{count + 1}}}",
            " & ".join(["Method", *map(_latex_heading, table.columns)]) + r" \\",
            r"\midrule",
            *_latex_rows(table, table.rows),
        ]
        if table.foot:
            lines += [r"\midrule", *_latex_rows(table, table.foot)]
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""]))
    return "\n".join(parts)


FORMS = {"txt": as_text, "csv": as_csv, "tex": as_latex}


def _latex_heading(name: str) -> str:
    """The heading of a column: tpir@fpir=1e-2 is TPIR at FPIR $10^{-2}$, and rank@5 is Rank 5."""
    figure, _, where = name.partition("@")
    figure = figure.replace("merged_", "merged ")
    words = {"rank": "Rank", "eer": "EER", "auc": "AUC"}.get(figure)
    words = words or figure.replace("tpir", "TPIR").replace("tar", "TAR")
    for far in ("far", "fpir"):
        if where.startswith(f"{far}="):
            where = f"at {far.upper()} {where.removeprefix(f'{far}=')}"
    text = latex(" ".join(filter(None, (words, where))))
    return re.sub(r"\b1e-(\d)\b", r"$10^{-\1}$", text)


def _latex_rows(table: Table, rows: list[tuple[str, list[Cell]]]) -> list[str]:
    lines = []
    for label, cells in rows:
        best = table.best_of(label) if rows is table.rows else ()
        values = [_latex_range(cell.value) for cell in cells]
        values = [rf"\textbf{{{value}}}" if i in best else value for i, value in enumerate(values)]
        lines.append(" & ".join([latex(label), *values]) + r" \\")
        if any(cell.interval for cell in cells):
            ends = (
                rf"{{\scriptsize {_latex_range(cell.interval)}}}" if cell.interval else "" for cell in cells
            )
            lines.append(" & ".join(["", *ends]) + r" \\")
    return lines


def _latex_range(text: str) -> str:
    """A cell of ours, with a dash for the dots of a range."""
    return "--".join(map(latex, text.split("..")))
