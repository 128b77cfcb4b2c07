"""fpsset identify: evaluates on the 1:N searches of TinyFace or IJB-S."""

import json
import pathlib

import click

from fpsset.commands.options import PATH, PATH_TEXT, PathOf, fit_option, json_option
from fpsset.errors import InputError
from fpsset.runtime.escapes import show


@click.command()
@click.argument("protocol", metavar="PROTOCOL", type=click.Choice(["tinyface", "ijbs"]))
@click.argument("lists", type=PATH)
@click.argument("features", type=PATH)
@click.option(
    "--model", type=PATH_TEXT, default="plain", show_default=True, help="Model to evaluate, by path or name."
)
@fit_option
@click.option(
    "--workdir",
    type=PathOf(path_type=pathlib.Path, file_okay=False),
    metavar="DIR",
    help="Folder for results.json and report/.",
)
@click.option(
    "--resamples", default=200, show_default=True, help="Resamples of the subjects, for the 95% intervals."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the resampling.")
@click.option("--verbose", is_flag=True, help="Print every figure, not only the main ones.")
@json_option
def identify(
    protocol: str,
    lists: pathlib.Path,
    features: pathlib.Path,
    model: str,
    fit: str | None,
    workdir: pathlib.Path | None,
    resamples: int,
    seed: int,
    verbose: bool,
    as_json: bool,
) -> None:
    """Evaluate a model and the plain poolings on the searches of TinyFace or IJB-S.

    PROTOCOL is tinyface or ijbs. LISTS is the folder of the official lists. FEATURES is a feature file of
    the crops, with their paths.

    \b
      fpsset simulate-search simulated/TinyFace --like tinyface --scale 0.02
      fpsset identify tinyface simulated/TinyFace simulated/TinyFace/features.npz
    """
    import jax

    import fpsset
    from fpsset.commands.inputs import load_model
    from fpsset.data.files import read_features
    from fpsset.data.ijbs import read_ijbs
    from fpsset.data.tinyface import read_tinyface
    from fpsset.evaluation.calibration import warning_of
    from fpsset.evaluation.protocols import faces_fingerprint
    from fpsset.evaluation.searches import evaluate_searches
    from fpsset.reports.forms import as_text
    from fpsset.reports.outcome import terminal_width
    from fpsset.reports.searches import About, search_results, search_sections, write_search_report
    from fpsset.runtime.progress import StepProgress

    for name, value in (("resamples", resamples), ("seed", seed)):
        if value < 0:
            raise InputError(f"--{name} is {value}; it must be at least 0")
    if not lists.is_dir():
        raise InputError(f"{lists}: no such folder; give the folder of the official lists")
    aggregator = load_model(model, fit)
    table = read_features(features)
    listed = (read_tinyface if protocol == "tinyface" else read_ijbs)(lists, table)
    if warning := warning_of(aggregator, table):
        StepProgress.say(f"warning: {warning}; evaluate people that the model has not seen")
    found = evaluate_searches(aggregator, table, listed, resamples, seed)
    about = About(listed.name, model)
    facts = {
        "fpsset": fpsset.__version__,
        "jax": jax.__version__,
        "features": str(features),
        "lists": str(lists),
        "fingerprint of the model": aggregator.digest,
        "fingerprint of the faces": faces_fingerprint(listed.sets),
    }
    made = search_sections(found, about)
    if workdir:
        write_search_report(workdir, found, about, facts)
    page = str(workdir / "report/index.html") if workdir else None
    if as_json:
        click.echo(json.dumps({"report": page, "tasks": search_results(made)}))
        return
    for section in made if verbose else search_sections(found, about, brief=True):
        show(as_text(section, terminal_width()), end="")
    if page:
        show(f"{page}: written")
