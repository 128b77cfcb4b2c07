"""fpsset select: shows which faces of a set are picked, and why."""

import dataclasses
import json
import pathlib

import click

from fpsset.commands.options import (
    PATH,
    backbone_options,
    by_option,
    json_option,
    merge_option,
    model_argument,
)
from fpsset.errors import InputError
from fpsset.runtime.escapes import show

_LEAVE_OUT_AT_MOST = 1000  # faces; for more, leaving each one out in turn takes minutes


@click.command()
@model_argument
@click.argument("source", metavar="SOURCE", type=PATH)
@click.option("--set", "which", metavar="NAME", help="Folder or id of the set, if SOURCE has several.")
@merge_option
@by_option
@backbone_options
@click.option("--faces", "every_face", is_flag=True, help="List all faces, not only the picks.")
@click.option(
    "--sheet",
    metavar="OUT.html",
    type=PATH,
    help="Also write a web page, and a picture to OUT.png.",
)
@click.option(
    "--map",
    "map_kind",
    type=click.Choice(["pca", "umap"]),
    default="pca",
    show_default=True,
    help="Map of the faces on the sheet.",
)
@json_option
def select(
    model: str,
    fit: str | None,
    source: pathlib.Path,
    which: str | None,
    merge: bool,
    by: str | None,
    every_face: bool,
    sheet: pathlib.Path | None,
    map_kind: str,
    as_json: bool,
    **backbone,
) -> None:
    """Show which faces of a set are picked, in which order, and why.

    MODEL is a workdir, converted weights, a published checkpoint, or 'plain', farthest-point sampling with
    gamma 0.35 and no learned parameters (mean, norm_weighted, media_mean and fps weigh the faces in other
    ways). SOURCE is a folder of one person's photos and videos, a folder with one folder per person, a photo,
    a video, or a feature file (.npz, .parquet).

    \b
      fpsset select plain photos/anna --weights weights/adaface --sheet anna.html
      fpsset select runs/mine features.npz --set 17 --json
      fpsset select runs/mine photos --set anna --weights face.onnx \\
          --color-order bgr --mean 127.5 --std 127.5
    """
    from fpsset.commands.inputs import load_model, read_faces, require_source
    from fpsset.evaluation.protocols import require_backbone
    from fpsset.inference.advice import RULES, advise
    from fpsset.reports.sheets.maps import place
    from fpsset.reports.sheets.sheet import Sheet
    from fpsset.runtime.progress import StepProgress

    if sheet is not None and sheet.suffix != ".html":
        raise InputError(f"{sheet}: a sheet is a web page; give --sheet a name that ends in .html")
    require_source(source, by, backbone)
    aggregator = load_model(model, fit)
    faces = read_faces(source, which, by, backbone, merge=merge)
    table = faces.table
    require_backbone(table, aggregator.dim, aggregator.backbone)
    leaves_out = len(table) <= _LEAVE_OUT_AT_MOST
    if not leaves_out:
        StepProgress.say(
            f"{len(table)} faces are too many to leave each out in turn; its effect is not shown"
        )
    why = aggregator.explain(table.embeddings, table.norms, media=table.media, leave_one_out=leaves_out)
    looks = dataclasses.replace(faces.looks, typical_norm=aggregator.typical_norm)
    found = Sheet(
        faces.title,
        aggregator.name,
        why,
        advise(why, table.embeddings, faces.names, looks=looks),
        faces.names,
        faces.images,
        *place(table.embeddings, map_kind),
    )
    if sheet is not None:
        from fpsset.reports.sheets.page import write_page
        from fpsset.reports.sheets.picture import draw_picture
        from fpsset.runtime.files import replacing

        drawing = sheet.with_suffix(".png")
        # Both files, or neither.
        with replacing(sheet, private=True) as page, replacing(drawing, private=True) as picture:
            write_page(page, found)
            draw_picture(picture, found)
    if as_json:
        paths = faces.names if table.paths is None else table.paths.tolist()
        answer = {
            "title": found.title,
            "model": found.model,
            "faces": paths,
            "picked": [paths[pick] for pick in why.picks],
            **why.to_dict(),
            "advice": found.advice.to_dict(),
            "rules": list(RULES.sentences()),
        }
        click.echo(json.dumps(answer, allow_nan=False))
        return
    from fpsset.reports.outcome import terminal_width
    from fpsset.reports.sheets.text import as_text

    show(as_text(found, terminal_width(), every_face))
    if sheet is not None:
        show(f"{sheet} and {sheet.with_suffix('.png')} written")
