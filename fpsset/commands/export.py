"""fpsset export: writes an aggregator as StableHLO or ONNX."""

import json
import pathlib

import click

from fpsset.commands.options import PATH_TEXT, PathOf, json_option
from fpsset.errors import InputError
from fpsset.runtime.escapes import show


@click.command()
@click.argument("weights", type=PATH_TEXT)
@click.argument("target", metavar="OUT", type=PathOf(path_type=pathlib.Path, dir_okay=False))
@click.option(
    "--platforms",
    default="cpu,cuda,tpu",
    show_default=True,
    help="Platforms to lower StableHLO for, separated by commas.",
)
@click.option("--media", is_flag=True, help="Take the medium of each face, too.")
@json_option
def export(weights: str, target: pathlib.Path, platforms: str, media: bool, as_json: bool) -> None:
    """Write an aggregator as one file, for any number and size of sets.

    WEIGHTS is a workdir, saved or converted weights, a published checkpoint, or plain. OUT is ONNX if it ends
    in .onnx and StableHLO else, which needs only JAX to run:
    jax.export.deserialize(bytes).call(embeddings, norms, mask). With --media there is a fourth argument,
    integers [B, N] in [0, N), equal for the faces of a medium: int64 for ONNX, int32 for StableHLO.
    """
    from fpsset.commands.inputs import FITTED, load_model
    from fpsset.inference.export import export_aggregator

    if target.resolve() == pathlib.Path(weights).resolve():
        raise InputError(f"{target}: is also WEIGHTS; give another OUT")
    if weights in FITTED:
        raise InputError(f"{weights}: is fitted to faces first; fpsset fit FEATURES DIR, then export DIR")
    model = load_model(weights)
    if target.suffix == ".onnx":
        from fpsset.inference.onnx_export import export_onnx

        export_onnx(target, model, media)
        form = {"format": "onnx"}
    else:
        if not model.dim:
            raise InputError(f"{weights}: takes embeddings of any width, StableHLO of one; give an OUT.onnx")
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
