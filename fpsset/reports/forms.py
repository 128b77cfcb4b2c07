"""Tables as text for a terminal, CSV for programs and LaTeX for papers."""

import csv
import io
import pathlib

from fpsset.evaluation.resampling import Estimate
from fpsset.reports.tables import Cell, Section
from fpsset.runtime.escapes import csv_cell, latex, plain_console, printable
from fpsset.runtime.files import replacing


def write_tables(folder: pathlib.Path, made: list[Section]) -> None:
    """Writes each section as .txt, .csv and .tex."""
    for section in made:
        for suffix, form in FORMS.items():
            with replacing(folder / f"{section.name}.{suffix}") as partial:
                partial.write_text(form(section))


def as_text(section: Section) -> str:
    """Tables for a terminal of 120 columns."""
    import rich.table

    buffer = io.StringIO()
    console = plain_console(buffer, 120)
    for table in section.tables:
        title = printable(f"{table.title}, {section.title}")
        drawn = rich.table.Table(title=title, title_justify="left")
        drawn.add_column("method")
        for column in table.columns:
            drawn.add_column(printable(column).replace("@", "\n@ "), justify="right")
        for rows in (table.rows, table.foot):
            for label, cells in rows:
                drawn.add_row(printable(label), *["\n".join(filter(None, cell)) for cell in cells])
            drawn.add_section()
        console.print(drawn)
    console.print(printable(section.note), soft_wrap=True)
    return buffer.getvalue()


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


def as_latex(section: Section) -> str:
    """A tabular per table, for booktabs; intervals in a smaller row below the figures."""
    parts = []
    for table in section.tables:
        head = " & ".join(["method", *map(latex, table.columns)])
        lines = [
            f"% {printable(f'{table.title}, {section.title}')}",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\toprule",
        ]
        lines += [head + r" \\", r"\midrule", *_latex_rows(table.rows)]
        if table.foot:
            lines += [r"\midrule", *_latex_rows(table.foot)]
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""]))
    return "\n".join(parts)


FORMS = {"txt": as_text, "csv": as_csv, "tex": as_latex}


def _latex_rows(rows: list[tuple[str, list[Cell]]]) -> list[str]:
    lines = []
    for label, cells in rows:
        lines.append(" & ".join([latex(label), *(_latex_range(cell.value) for cell in cells)]) + r" \\")
        if any(cell.interval for cell in cells):
            ends = (
                rf"{{\scriptsize {_latex_range(cell.interval)}}}" if cell.interval else "" for cell in cells
            )
            lines.append(" & ".join(["", *ends]) + r" \\")
    return lines


def _latex_range(text: str) -> str:
    """A cell of ours, with a dash for the dots of a range."""
    return "--".join(map(latex, text.split("..")))
