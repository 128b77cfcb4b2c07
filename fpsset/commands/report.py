"""fpsset report: runs of one protocol compared, in pairs."""

import pathlib

import click

from fpsset.errors import InputError


@click.command()
@click.argument("workdirs", nargs=-1, required=True, type=click.Path(path_type=pathlib.Path))
@click.option("--method", default="fpsset", show_default=True, help="Of each run.")
@click.option(
    "--out",
    type=click.Path(path_type=pathlib.Path, file_okay=False),
    help="A folder to write index.html, comparison.csv and comparison.tex to.",
)
def report(workdirs: tuple[pathlib.Path, ...], method: str, out: pathlib.Path | None) -> None:
    """Compare evaluated runs of one protocol.

    WORKDIRS are two or more; the first is what the others are compared with. Differences come with 95%
    intervals on the same draws of the subjects.
    """
    from fpsset.evaluation.comparison import compare, read_run, require_comparable
    from fpsset.evaluation.page import write_page
    from fpsset.evaluation.report import write_tables
    from fpsset.evaluation.tables import as_text

    if len({path.resolve() for path in workdirs}) < max(2, len(workdirs)):
        raise InputError("give two or more different workdirs; one run's report is its report/index.html")
    runs = [read_run(path, method) for path in workdirs]
    require_comparable(runs)
    made = compare(runs, method)
    if out:
        write_tables(out, [made])
        facts = {f"{run.name}: {name}": value for run in runs for name, value in run.about.items()}
        write_page(out / "index.html", f"Comparison: {made.title}", [], [made], [], facts, {})
    click.echo(as_text(made), nl=False)
    if out:
        click.echo(f"{out / 'index.html'}: written")
