"""Finds data in the usual places: features, protocols, images, datasets, weights and runs."""

import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

from fpsset.data.face_lists import FACES
from fpsset.data.feature_table import REQUIRED
from fpsset.data.ijb import ijb_files
from fpsset.datasets.prepared import is_prepared
from fpsset.errors import InputError
from fpsset.images.listing import IMAGE_SUFFIXES
from fpsset.weights.cards import is_weights

PLACES = (".", "data", "datasets", "features", "weights", "runs")
# Kinds of data, and where each comes from.
KINDS = {
    "features": "make them from images with fpsset extract, or from arrays as docs/features.md says",
    "protocol": "request IJB-B or IJB-C from NIST, or write a synthetic one with fpsset simulate-ijb OUT",
    "images": "use one folder per person with aligned crops of 112 x 112 pixels, or a .rec pack of them",
    "dataset": "make one from any of these with fpsset prepare",
    "weights": "make them from a published checkpoint with fpsset convert",
    "run": "make one with fpsset train quickstart",
}
_CHECKPOINTS = frozenset((".ckpt", ".onnx", ".pt", ".pth", ".safetensors"))
_ENTRIES = 1000  # looked at per folder; a folder with more is data itself


class Found(NamedTuple):
    """Data that was found.

    Attributes:
      kind: one of `KINDS`.
      path: of the file or folder.
      lacks: what is missing before it can be used; empty if nothing is.
    """

    kind: str
    path: str
    lacks: str


def find_data(places: tuple[pathlib.Path, ...]) -> list[Found]:
    """Looks at folders and their entries, without reading whole files.

    Args:
      places: folders; those that do not exist are skipped.
    """
    candidates = {}
    for place in places:
        if place.is_dir():
            inside = sorted(p for p in _entries(place) if p.name[0] != ".")
            candidates |= dict.fromkeys([place, *inside])
    recognised = [(path, _recognise(path)) for path in candidates]
    return [Found(kind[0], str(path), kind[1]) for path, kind in recognised if kind]


def _entries(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    with os.scandir(folder) as entries:
        for _, entry in zip(range(_ENTRIES), entries, strict=False):
            yield pathlib.Path(folder, entry.name)


def _recognise(path: pathlib.Path) -> tuple[str, str] | None:
    """(kind, what it lacks) of a file or folder; None if it is no data."""
    try:
        if path.is_file():
            return _recognise_file(path)
        return _recognise_folder(path) if path.is_dir() else None
    except PermissionError:
        return None


def _recognise_file(path: pathlib.Path) -> tuple[str, str] | None:
    match path.suffix:
        case ".npz":
            return _recognise_npz(path)
        case ".parquet":
            return "features", ""
        case ".rec":
            index = path.with_suffix(".idx")
            return "images", "" if index.is_file() else f"no {index.name} beside it"
        case suffix if suffix in _CHECKPOINTS:
            return "weights", ""
    return None


def _recognise_npz(path: pathlib.Path) -> tuple[str, str] | None:
    try:
        with ZipFile(path) as file:
            columns = {name.removesuffix(".npy") for name in file.namelist()}
    except BadZipFile:
        return "features", "not a complete .npz"
    missing = [column for column in REQUIRED if column not in columns]
    if "embeddings" not in columns:
        return None  # a gallery, or arrays of another kind
    return "features", f"no column {', '.join(missing)}" if missing else ""


def _recognise_folder(path: pathlib.Path) -> tuple[str, str] | None:
    if is_prepared(path):
        return "dataset", ""
    if is_weights(path):
        return "weights", ""
    if (path / "checkpoints").is_dir():
        saved = any(entry.name.isdigit() for entry in (path / "checkpoints").iterdir())
        return "run", "" if saved else "no checkpoint yet"
    if any((path / "meta").glob(FACES)):
        try:
            ijb_files(path)
        except InputError as error:
            return "protocol", str(error).removeprefix(f"{path}: ").partition(". ")[0]
        return "protocol", ""
    return ("images", "") if _shows_people(path) else None


def _shows_people(path: pathlib.Path) -> bool:
    """Whether the first two folders in a folder hold only images."""
    people = [folder for folder in _entries(path) if folder.is_dir() and folder.name[0] not in "._"][:2]
    return len(people) == 2 and all(_holds_images(folder) for folder in people)


def _holds_images(folder: pathlib.Path) -> bool:
    files = [entry for entry in _entries(folder) if entry.is_file()][:20]
    return bool(files) and all(file.suffix.lower() in IMAGE_SUFFIXES for file in files)
