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
    help="A folder to write index.html, the tables and the pictures to.",
)
def report(workdirs: tuple[pathlib.Path, ...], method: str, out: pathlib.Path | None) -> None:
    """Compare evaluated runs of one protocol.

    WORKDIRS are two or more; the first is what the others are compared with. Differences come with 95%
    intervals on the same draws of the subjects.
    """
    from fpsset.reports.comparison import compare, require_comparable, write_comparison
    from fpsset.reports.draws_file import read_run
    from fpsset.reports.forms import as_text

    if len({path.resolve() for path in workdirs}) < max(2, len(workdirs)):
        raise InputError("give two or more different workdirs; one run's report is its report/index.html")
    runs = [read_run(path, method) for path in workdirs]
    require_comparable(runs)
    made = compare(runs, method)
    if out:
        write_comparison(out, runs, made, method)
    click.echo(as_text(made), nl=False)
    if out:
        click.echo(f"{out / 'index.html'}: written")
