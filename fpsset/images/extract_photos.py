"""Extracts features of photos and videos, in which faces are found first, into one feature file."""

import pathlib

import jax

from fpsset.data.feature_table import FeatureTable
from fpsset.data.files import require_writable, write_features
from fpsset.errors import InputError
from fpsset.images.finding import FindingOptions
from fpsset.images.finding_parts import forget_parts
from fpsset.images.photo_faces import PhotoFaces, find_photo_faces
from fpsset.images.photo_listing import list_sources
from fpsset.images.recognisers import load_recogniser
from fpsset.runtime.escapes import printable
from fpsset.runtime.files import replacing
from fpsset.runtime.locks import sole_use
from fpsset.runtime.progress import StepProgress


def extract_photos(config) -> FeatureTable:
    """Finds and embeds the faces of `config.images` and writes `config.out`; see `find_photo_faces`.

    Args:
      config: see `fpsset.config.extraction_config`, with a `detector`.

    Raises:
      InputError: there is no such detector or backbone, no face is found, another process extracts to the
        same file, or there are several processes.
    """
    if jax.process_count() > 1:
        raise InputError("config.detector is given, but photos are searched by one process; start only one")
    out = pathlib.Path(config.out)
    require_writable(out)
    sources = list_sources([pathlib.Path(config.images)])
    if ignored := sources.said_ignored():
        StepProgress.say(ignored)
    options = FindingOptions(
        pathlib.Path(config.detector), batch_size=config.batch_size, threads=config.threads
    )
    with sole_use(out, "--config.out"):
        found = find_photo_faces(sources, load_recogniser(config), options, out=out)
        listing = write_left_out(out, found)
        write_features(out, found.named_table())
        forget_parts(out)
    for line in found.counts():
        StepProgress.say(line)
    if found.left_out:
        StepProgress.say(f"what is left out, and why: {listing}")
    return found.table


def write_left_out(out: pathlib.Path, found: PhotoFaces) -> pathlib.Path:
    """Writes what is left out, and why, beside a feature file; removes an older list if nothing is.

    Returns:
      The list's path.
    """
    listing = out.with_name(f"{out.stem}.left_out.txt")
    if not found.left_out:
        listing.unlink(missing_ok=True)
        return listing
    with replacing(listing, private=True) as beside:
        beside.write_text("".join(f"{printable(one.name)}: {one.why}\n" for one in found.left_out))
    return listing
