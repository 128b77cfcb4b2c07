"""fpsset convert: converts published checkpoints."""

import dataclasses
import json
import pathlib

import click

from fpsset.commands.options import PATH, json_option
from fpsset.errors import InputError
from fpsset.runtime.escapes import show


@click.command()
@click.argument("source", metavar="IN", type=PATH)
@click.argument("target", metavar="OUT", type=PATH)
@json_option
@click.option(
    "--color-order", type=click.Choice(["bgr", "rgb"]), help="Needed only if IN does not determine it."
)
def convert(source: pathlib.Path, target: pathlib.Path, color_order: str | None, as_json: bool) -> None:
    """Convert a published checkpoint for use with fpsset.

    IN is a .ckpt, .pth, .pt or .safetensors file of FaceCoresetNet, AdaFace, CVLface (IResNet or ViT) or
    InsightFace (IResNet); no code in it is run. OUT is a folder, which gets an Orbax checkpoint and
    card.json, its description.
    """
    from fpsset.models.backbones import takes_keypoints
    from fpsset.weights.cards import save_weights
    from fpsset.weights.official import load_official

    if target.resolve() in (source.resolve(), *source.resolve().parents):
        raise InputError(f"{target}: contains IN; give another OUT")
    weights = load_official(source, color_order)
    save_weights(target, weights)
    card = weights.card
    if as_json:
        click.echo(json.dumps({"out": str(target), "parts": sorted(weights), **dataclasses.asdict(card)}))
        return
    show(f"{target}: {', '.join(sorted(weights))} from {card.family}")
    if card.backbone:
        show(f"backbone: {card.backbone.architecture}, {card.backbone.color_order} images")
        if takes_keypoints(weights["backbone"]):
            show("keypoints: the landmarks by which faces are aligned; of aligned crops, the template's")
    if card.aggregator:
        show(f"aggregator: {card.aggregator.coreset_size} picks, {card.aggregator.dim} wide")
    show(f"licence: {card.licence}")
    if card.ignored:
        show(f"ignored: {'; '.join(card.ignored)}")
