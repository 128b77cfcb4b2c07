"""fpsset aggregate: features to descriptors."""

import json
import pathlib

import click

from fpsset.commands.options import by_option, json_option, model_argument
from fpsset.errors import InputError


@click.command()
@model_argument
@click.argument("features", metavar="FEATURES", type=click.Path(path_type=pathlib.Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=pathlib.Path))
@by_option
@json_option
def aggregate(
    model: str, features: pathlib.Path, target: pathlib.Path, by: str | None, as_json: bool
) -> None:
    """Turn sets of embeddings into one descriptor each.

    MODEL is a workdir, converted weights, a published checkpoint, or the word 'plain': nothing learned, the
    norm-weighted mean. FEATURES is an .npz or .parquet with the columns embeddings, norms, subject, media and
    maybe template; by the default recipe the frames of one medium weigh as one face. OUT is an .npz: ids [S],
    descriptors [S, D], norms [S], and the digest of the model; Aggregator.load_gallery reads it.

    \b
      fpsset aggregate runs/quickstart features.npz descriptors.npz
      fpsset aggregate plain features.parquet descriptors.npz --by subject
    """
    from fpsset.commands.inputs import load_model, set_ids
    from fpsset.data.files import read_features
    from fpsset.evaluation.protocols import require_backbone

    if target.suffix != ".npz":
        raise InputError(f"{target}: descriptors are written as .npz; give OUT such a name")
    if target.resolve() == features.resolve():
        raise InputError(f"{target}: is FEATURES; give another OUT")
    table = read_features(features)
    ids = set_ids(table, by)
    loaded = load_model(model)
    require_backbone(table, loaded.dim, loaded.backbone)
    found = loaded.aggregate(table.embeddings, table.norms, ids, media=table.media)
    loaded.save_gallery(target, found.ids, found.descriptors, found.norms)
    said = {
        "out": str(target),
        "model": loaded.name,
        "digest": loaded.digest,
        "sets": len(found.ids),
        "faces": len(table),
        "dim": table.dim,
    }
    if as_json:
        click.echo(json.dumps(said))
    else:
        click.echo(f"{target}: {len(found.ids)} descriptors of {len(table)} faces, {table.dim} wide")
