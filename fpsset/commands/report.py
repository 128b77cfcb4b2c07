"""fpsset report: compares evaluated runs."""

import json
import pathlib

import click

from fpsset.commands.options import PATH, PathOf, json_option
from fpsset.errors import InputError
from fpsset.runtime.escapes import show


@click.command()
@click.argument("workdirs", nargs=-1, required=True, type=PATH)
@click.option("--method", default="fpsset", show_default=True, help="Method of each run to compare.")
@click.option(
    "--out",
    type=PathOf(path_type=pathlib.Path, file_okay=False),
    help="Folder for index.html, tables and plots.",
)
@json_option
def report(workdirs: tuple[pathlib.Path, ...], method: str, out: pathlib.Path | None, as_json: bool) -> None:
    """Compare evaluated runs of one protocol.

    Give two or more WORKDIRS; the first is the reference for the others. Differences have 95% intervals,
    from the same resamples of the subjects in all runs.
    """
    from fpsset.reports.comparison import compare, require_comparable, write_comparison
    from fpsset.reports.draws_file import read_run
    from fpsset.reports.forms import as_text, figures_to_json
    from fpsset.reports.outcome import terminal_width

    if len({path.resolve() for path in workdirs}) < max(2, len(workdirs)):
        raise InputError("give two or more different workdirs; a single run has its own report/index.html")
    runs = [read_run(path, method) for path in workdirs]
    require_comparable(runs)
    made = compare(runs, method)
    if out:
        write_comparison(out, runs, made, method)
    if as_json:
        page = str(out / "index.html") if out else None
        click.echo(json.dumps({"reference": runs[0].name, "report": page, "figures": figures_to_json(made)}))
        return
    show(as_text(made, terminal_width()), end="")
    if out:
        show(f"{out / 'index.html'}: written")
