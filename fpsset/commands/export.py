"""fpsset export: writes an aggregator as StableHLO."""

import json
import pathlib

import click

from fpsset.commands.options import PATH, PathOf, json_option
from fpsset.errors import InputError
from fpsset.runtime.escapes import show


@click.command()
@click.argument("weights", type=PATH)
@click.argument("target", metavar="OUT", type=PathOf(path_type=pathlib.Path, dir_okay=False))
@click.option(
    "--platforms",
    default="cpu,cuda,tpu",
    show_default=True,
    help="Platforms to lower for, separated by commas.",
)
@json_option
def export(weights: pathlib.Path, target: pathlib.Path, platforms: str, as_json: bool) -> None:
    """Write an aggregator as one StableHLO file, for any number and size of sets.

    WEIGHTS is a workdir, converted weights or a published checkpoint. OUT needs only JAX to run:
    jax.export.deserialize(bytes).call(embeddings, norms, mask).
    """
    from fpsset.inference.export import export_aggregator
    from fpsset.inference.loading import load

    if target.resolve() == weights.resolve():
        raise InputError(f"{target}: is also WEIGHTS; give another OUT")
    model = load(weights)
    export_aggregator(
        target, model.module.apply, model.variables, model.dim, model.norm_scale, platforms.split(",")
    )
    if as_json:
        summary = {"out": str(target), "bytes": target.stat().st_size, "platforms": platforms.split(",")}
        click.echo(json.dumps(summary | {"dim": model.dim, "digest": model.digest}))
        return
    show(f"{target}: {target.stat().st_size / 1e6:.1f} MB for {platforms}")
