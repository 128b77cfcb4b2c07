"""fpsset aggregate: turns features into descriptors."""

import json
import pathlib

import click
import numpy as np

from fpsset.commands.options import PATH, backbone_options, by_option, json_option, model_argument
from fpsset.errors import InputError
from fpsset.runtime.escapes import show


@click.command()
@model_argument
@click.argument("source", metavar="SOURCE", type=PATH)
@click.argument("target", metavar="OUT", type=PATH)
@by_option
@click.option(
    "--merge",
    "merged",
    multiple=True,
    metavar="A,B,...",
    help="Sets of one person, merged under the first name; may be repeated.",
)
@backbone_options
@json_option
def aggregate(
    model: str,
    fit: str | None,
    source: pathlib.Path,
    target: pathlib.Path,
    by: str | None,
    merged: tuple[str, ...],
    as_json: bool,
    **backbone,
) -> None:
    """Turn each set of faces into one descriptor.

    MODEL is a workdir, converted weights, a published checkpoint, or a pooling by name: plain (the same as
    norm_weighted), mean, media_mean, fps; or posterior or whitened with --fit. SOURCE is an .npz or .parquet
    file with the columns embeddings, norms, subject, media and optionally template or, with --weights, a
    photo, a video, or a folder with one folder of them per person. The frames of a medium count as one face
    in models that are fitted or trained with the default recipe. OUT is an .npz file with ids [S],
    descriptors [S, D], norms [S] and the model's digest, for Aggregator.load_gallery.

    \b
      fpsset aggregate runs/quickstart features.npz descriptors.npz
      fpsset aggregate plain features.parquet descriptors.npz --by subject
      fpsset aggregate plain photos descriptors.npz --weights weights/adaface \\
          --merge anna,anna_2019
    """
    from fpsset.commands.inputs import grouped, load_model, read_all_faces, require_source
    from fpsset.evaluation.protocols import require_backbone

    if target.suffix != ".npz":
        raise InputError(f"{target}: descriptors are written as .npz; give an OUT that ends in .npz")
    if target.resolve() == source.resolve():
        raise InputError(f"{target}: is also SOURCE; give another OUT")
    require_source(source, None, backbone)
    loaded = load_model(model, fit)
    table, ids = grouped(read_all_faces(source, backbone), by)
    ids = _merged(ids, merged, source)
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


def _merged(ids: np.ndarray, merged: tuple[str, ...], source: pathlib.Path) -> np.ndarray:
    """The ids with those of each group replaced by its first.

    Raises:
      InputError: a name is no id, or is in two groups.
    """
    known, named, seen = np.unique(ids), ids.astype(str), set()
    for group in merged:
        names = group.split(",")
        for name in names:
            if name not in known.astype(str):
                raise InputError(f"{source}: holds no set {name!r} to merge; --merge takes names, e.g. a,b")
            if name in seen:
                raise InputError(f"--merge names the set {name!r} twice; name it once")
            seen.add(name)
        first = known[known.astype(str) == names[0]][0]
        ids = np.where(np.isin(named, names), first, ids)
    return ids
