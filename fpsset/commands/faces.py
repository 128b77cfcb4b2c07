"""fpsset faces: turns photos and videos into a feature file, and a sheet to look at."""

import json
import pathlib

import click

from fpsset.commands.options import PATH, backbone_options, json_option
from fpsset.errors import InputError
from fpsset.runtime.escapes import show

_NAMED = 10  # photos without a usable face, on the terminal


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, required=True, metavar="OUT", help="Feature file, .npz or .parquet.")
@click.option("--one-person", is_flag=True, help="All sources show one person, alone or among others.")
@click.option(
    "--known", type=PATH, metavar="FEATURES", help="People to recognise where the folder names nobody."
)
@click.option("--rate", default=5.0, show_default=True, help="Frames a second that are looked at in videos.")
@click.option(
    "--least-side", default=32, show_default=True, help="Pixels of a face's box, below which it is left out."
)
@click.option("--sheet", type=PATH, metavar="OUT.html", help="Contact sheet.  [default: beside OUT]")
@click.option("--no-sheet", is_flag=True, help="Write no contact sheet.")
@backbone_options
@json_option
def faces(
    sources: tuple[pathlib.Path, ...],
    out: pathlib.Path,
    one_person: bool,
    known: pathlib.Path | None,
    rate: float,
    least_side: int,
    sheet: pathlib.Path | None,
    no_sheet: bool,
    as_json: bool,
    **backbone,
) -> None:
    """Find, align and embed the faces of photos and videos.

    SOURCE is a photo, a video, or a folder of them; in a folder, each folder inside shows the person of that
    name. Of a known person, the face most like that person's others is taken from each photo. Otherwise all
    faces are taken: those of photos are of nobody known, those of a video are told apart. A video's faces are
    followed, and each track is a medium. Images of 112 x 112 pixels count as aligned.

    OUT is a feature file for all other commands, with paths, frame times, boxes and scores. Photos without a
    usable face are named in OUT.left_out.txt. Stop it at any time; the same command goes on.

    \b
      fpsset faces holiday/anna --one-person --out anna.npz --weights face.onnx \\
          --preset insightface
      fpsset faces people party.mp4 --known people.npz --out party.npz --weights w
    """
    from fpsset.commands.contact_sheet import write_sheet
    from fpsset.commands.photo_sources import faces_of
    from fpsset.data.files import require_writable, write_features
    from fpsset.images.extract_photos import write_left_out
    from fpsset.images.finding_parts import forget_parts
    from fpsset.runtime.locks import sole_use
    from fpsset.runtime.progress import StepProgress

    if out.suffix.lower() not in (".npz", ".parquet", ".pq"):
        raise InputError(f"{out}: features are written as .npz or .parquet; give an --out that ends so")
    if not 0 < rate <= 1000:
        raise InputError(f"--rate is {rate:g}; it must be above 0, and at most 1000 frames a second")
    if least_side < 1:
        raise InputError(f"--least-side is {least_side}; it must be at least 1 pixel")
    if backbone["landmarks"]:
        raise InputError("--landmarks is for aligning without a detector; leave it out, or use fpsset select")
    if sheet is not None and (no_sheet or sheet.suffix != ".html"):
        raise InputError(f"{sheet}: a sheet is a web page; give --sheet a name that ends in .html, alone")
    sheet = None if no_sheet else sheet or out.with_suffix(".html")
    require_writable(out)
    with sole_use(out, "--out"):
        name = _name_of(sources) if one_person else ""
        found = faces_of(sources, backbone, name, known, least_side, rate, out)
        listing = write_left_out(out, found)
        write_features(out, found.named_table())
        if sheet is not None:
            write_sheet(sheet, found, _title(sources))
        forget_parts(out)
    if as_json:
        click.echo(json.dumps(_summary(out, sheet, found), allow_nan=False))
        return
    for one in found.left_out[:_NAMED]:
        StepProgress.say(f"left out: {one.name}: {one.why}")
    if len(found.left_out) > _NAMED:
        StepProgress.say(f"and {len(found.left_out) - _NAMED} more; see {listing}")
    for line in found.counts():
        show(line)
    show(f"{out} written" + (f", and {sheet}" if sheet is not None else ""))


def _name_of(sources: tuple[pathlib.Path, ...]) -> str:
    """What the one person is called: as the first source."""
    first = sources[0].resolve()
    return (first.name if first.is_dir() else first.parent.name) or "person"


def _title(sources: tuple[pathlib.Path, ...]) -> str:
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    return f"{sources[0].resolve().name}{more}"


def _summary(out: pathlib.Path, sheet: pathlib.Path | None, found) -> dict:
    return {
        "out": str(out),
        "sheet": None if sheet is None else str(sheet),
        "faces": len(found.table),
        "media": len(set(found.table.media.tolist())),
        "people": sorted(found.people.values()),
        "left_out": [one._asdict() for one in found.left_out],
        "several": found.several,
    }
