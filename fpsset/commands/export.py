"""fpsset export: writes an aggregator as StableHLO or ONNX."""

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
    help="Platforms to lower StableHLO for, separated by commas.",
)
@click.option("--media", is_flag=True, help="Take the medium of each face, too.")
@json_option
def export(weights: pathlib.Path, target: pathlib.Path, platforms: str, media: bool, as_json: bool) -> None:
    """Write an aggregator as one file, for any number and size of sets.

    WEIGHTS is a workdir, converted weights or a published checkpoint. OUT is ONNX if it ends in .onnx and
    StableHLO else, which needs only JAX to run: jax.export.deserialize(bytes).call(embeddings, norms, mask).
    With --media there is a fourth argument, integers [B, N] in [0, N), equal for the faces of a medium: int64
    for ONNX, int32 for StableHLO.
    """
    from fpsset.inference.export import export_aggregator
    from fpsset.inference.loading import load

    if target.resolve() == weights.resolve():
        raise InputError(f"{target}: is also WEIGHTS; give another OUT")
    model = load(weights)
    if target.suffix == ".onnx":
        from fpsset.inference.onnx_export import export_onnx

        export_onnx(target, model, media)
        form = {"format": "onnx"}
    else:
        export_aggregator(
            *(target, model.module.apply, model.variables, model.dim, model.norm_scale, platforms.split(",")),
            media=media,
        )
        form = {"format": "stablehlo", "platforms": platforms.split(",")}
    size = target.stat().st_size
    if as_json:
        summary = {"out": str(target), "bytes": size, **form, "dim": model.dim, "digest": model.digest}
        click.echo(json.dumps(summary))
        return
    show(f"{target}: {size / 1e6:.1f} MB " + ("of ONNX" if target.suffix == ".onnx" else f"for {platforms}"))
