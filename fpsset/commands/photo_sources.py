"""Faces of photos and videos, for the commands that take them."""

import pathlib
from collections.abc import Sequence

from fpsset.commands.backbones import backbone_config
from fpsset.errors import InputError
from fpsset.images.finding import FindingOptions
from fpsset.images.listing import IMAGE_SUFFIXES
from fpsset.images.photo_faces import PhotoFaces, find_photo_faces
from fpsset.images.photo_listing import Sources, list_sources
from fpsset.images.recognisers import load_recogniser
from fpsset.runtime.programs import keep_programs
from fpsset.runtime.progress import StepProgress
from fpsset.weights.fetched import fetched


def detector_of(detector: pathlib.Path | None, sources: Sources) -> pathlib.Path | None:
    """The detector given, or the one that was fetched; None where only aligned crops need none.

    Raises:
      InputError: there is no detector, and a source is not an aligned crop.
    """
    if detector is not None:
        if not detector.is_file():
            raise InputError(f"{detector}: no such file; give --detector a YuNet .onnx")
        return detector
    found = fetched("yunet")
    if found is None and (other := first_that_is_no_crop(sources)):
        raise InputError(
            f"{other}: to find faces in it, get a detector by: fpsset fetch yunet; or give --detector FILE"
        )
    return found


def first_that_is_no_crop(sources: Sources) -> str:
    """The name of the first source that is not an aligned crop; empty if all are, or cannot be read."""
    from fpsset.images.aligned_faces import UnreadableImage
    from fpsset.images.photos import photo_size

    for item in sources.items:
        if item.moves or item.path.suffix.lower() not in IMAGE_SUFFIXES:
            return item.name
        try:
            if photo_size(item.path) != (112, 112):
                return item.name
        except UnreadableImage:  # which is named later
            continue
    return ""


def faces_of(
    paths: Sequence[pathlib.Path],
    backbone: dict,
    one_person: str = "",
    known: pathlib.Path | None = None,
    least_side: int = FindingOptions.least_side,
    rate: float = FindingOptions.rate,
    out: pathlib.Path | None = None,
) -> PhotoFaces:
    """Finds and embeds the faces of sources; see `find_photo_faces`.

    Args:
      paths: photos, videos and folders.
      backbone: values of `options.backbone_options`.
      one_person: name of the one person whom all show; empty: see `list_sources`.
      known: feature file of people to recognise.
      least_side: pixels.
      rate: frames a second.
      out: beside which to keep what was found.
    """
    from fpsset.data.feature_table import known_people
    from fpsset.data.files import read_features

    if backbone["folder_is_video"]:
        raise InputError("--folder-is-video is for aligned crops; give the video itself")
    config = backbone_config(backbone, paths[0])
    sources = list_sources(paths, one_person)
    if ignored := sources.said_ignored():
        StepProgress.say(ignored)
    options = FindingOptions(detector_of(backbone["detector"], sources), least_side, rate)
    table = None if known is None else known_people(read_features(known))
    keep_programs()
    recogniser = load_recogniser(config)
    if table is not None and table.backbone and table.backbone != recogniser.card.digest:
        raise InputError(
            f"{known}: comes from a backbone with digest {table.backbone[:16]}, not from "
            f"{config.weights}; give features that it made"
        )
    return find_photo_faces(sources, recogniser, options, table, out)
