"""fpsset fit: fits a model in closed form."""

import json
import pathlib

import click

from fpsset.commands.inputs import FITTED
from fpsset.commands.options import PATH, json_option
from fpsset.errors import InputError
from fpsset.runtime.escapes import show


@click.command()
@click.argument("features", metavar="FEATURES", type=PATH)
@click.argument("target", metavar="OUT", type=PATH)
@click.option("--model", type=click.Choice(FITTED), default=FITTED[0], show_default=True)
@click.option("--picks", type=click.IntRange(min=1), default=3, show_default=True, help="Faces per coreset.")
@json_option
def fit(features: pathlib.Path, target: pathlib.Path, model: str, picks: int, as_json: bool) -> None:
    """Fit a model to labelled faces, in seconds and without training.

    FEATURES is an .npz or .parquet file from the backbone that the model will be used with: a hundred people
    or more, each in several stills or videos. OUT is a folder for the model, which every command takes
    as MODEL. 'posterior' is the recommended model; 'whitened' is a plain pooling, fitted.

    \b
      fpsset fit train.npz models/mine
      fpsset aggregate models/mine features.npz descriptors.npz
    """
    from fpsset.training.closed_form import fit as fit_to

    if target.resolve() in (features.resolve(), *features.resolve().parents):
        raise InputError(f"{target}: contains FEATURES; give another OUT")
    found = fit_to(features, model, picks)
    found.save(target)
    if as_json:
        summary = {"out": str(target), "model": found.name, "digest": found.digest, "dim": found.dim}
        click.echo(json.dumps(summary | {"picks": found.module.coreset_size}))
        return
    show(f"{target}: {found.name}; {found.module.coreset_size} picks, embeddings {found.dim} wide")
