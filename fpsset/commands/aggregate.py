"""fpsset aggregate: turns features into descriptors."""

import json
import pathlib

import click

from fpsset.commands.options import PATH, backbone_options, by_option, json_option, model_argument
from fpsset.errors import InputError
from fpsset.runtime.escapes import show


@click.command()
@model_argument
@click.argument("features", metavar="FEATURES", type=PATH)
@click.argument("target", metavar="OUT", type=PATH)
@by_option
@backbone_options
@json_option
def aggregate(
    model: str,
    fit: str | None,
    features: pathlib.Path,
    target: pathlib.Path,
    by: str | None,
    as_json: bool,
    **backbone,
) -> None:
    """Turn each set of embeddings into one descriptor.

    MODEL is a workdir, converted weights, a published checkpoint, or 'plain', the norm-weighted mean without
    learned parameters. FEATURES is an .npz or .parquet file with the columns embeddings, norms, subject,
    media and optionally template; models of the default recipe weigh a medium's frames as one face. With
    --weights it may be a photo, a video or a folder, as for fpsset select. OUT is an
    .npz file with ids [S], descriptors [S, D], norms [S] and the model's digest, for Aggregator.load_gallery.

    \b
      fpsset aggregate runs/quickstart features.npz descriptors.npz
      fpsset aggregate plain features.parquet descriptors.npz --by subject
    """
    from fpsset.commands.inputs import grouped, load_model, read_table
    from fpsset.evaluation.protocols import require_backbone

    if target.suffix != ".npz":
        raise InputError(f"{target}: descriptors are written as .npz; give an OUT that ends in .npz")
    if target.resolve() == features.resolve():
        raise InputError(f"{target}: is also FEATURES; give another OUT")
    table, ids = grouped(read_table(features, backbone), by)
    loaded = load_model(model, fit)
    require_backbone(table, loaded.dim, loaded.backbone)
    found = loaded.aggregate(table.embeddings, table.norms, ids, media=table.media)
    loaded.save_gallery(target, found.ids, found.descriptors, found.norms)
    summary = {
        "out": str(target),
        "model": loaded.name,
        "digest": loaded.digest,
        "sets": len(found.ids),
        "faces": len(table),
        "dim": table.dim,
    }
    if as_json:
        click.echo(json.dumps(summary))
    else:
        show(f"{target}: {len(found.ids)} descriptors of width {table.dim} from {len(table)} faces")
