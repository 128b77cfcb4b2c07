"""What lies in the usual places: features, protocols, images, weights and runs, and what they lack."""

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
# What there may be, and where it comes from.
KINDS = {
    "features": "configs/extract.py makes them of images, or see 'Your own features' in the README",
    "protocol": "IJB-B and IJB-C are NIST's to give; fpsset simulate-ijb OUT writes a synthetic one",
    "images": "a folder per person with aligned crops of 112 x 112 pixels, or a .rec pack of them",
    "dataset": "configs/prepare.py makes one of any of these",
    "weights": "fpsset convert turns a published checkpoint into them",
    "run": "python -m fpsset.main --config configs/quickstart.py --workdir runs/quickstart",
}
_CHECKPOINTS = frozenset((".ckpt", ".onnx", ".pt", ".pth", ".safetensors"))
_ENTRIES = 1000  # of a folder that are looked at; more are data, not places for it


class Found(NamedTuple):
    """Something of use.

    Attributes:
      kind: one of `KINDS`.
      path: where it is.
      lacks: what must be mended before it can be used; empty where nothing.
    """

    kind: str
    path: str
    lacks: str


def find_data(places: tuple[pathlib.Path, ...]) -> list[Found]:
    """Looks at the entries of folders; those missing are passed over. No file is read through.

    Args:
      places: folders, and each is itself looked at too.
    """
    candidates = {}
    for place in places:
        if place.is_dir():
            inside = sorted(p for p in _some(place) if p.name[0] != ".")
            candidates |= dict.fromkeys([place, *inside])
    found = [(path, _tell(path)) for path in candidates]
    return [Found(told[0], str(path), told[1]) for path, told in found if told]


def _some(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    with os.scandir(folder) as entries:
        for _, entry in zip(range(_ENTRIES), entries, strict=False):
            yield pathlib.Path(folder, entry.name)


def _tell(path: pathlib.Path) -> tuple[str, str] | None:
    """(kind, what it lacks) of a file or folder; None for anything else."""
    try:
        if path.is_file():
            return _tell_file(path)
        return _tell_folder(path) if path.is_dir() else None
    except PermissionError:
        return None


def _tell_file(path: pathlib.Path) -> tuple[str, str] | None:
    match path.suffix:
        case ".npz":
            return _tell_npz(path)
        case ".parquet":
            return "features", ""
        case ".rec":
            index = path.with_suffix(".idx")
            return "images", "" if index.is_file() else f"no {index.name} beside it"
        case suffix if suffix in _CHECKPOINTS:
            return "weights", ""
    return None


def _tell_npz(path: pathlib.Path) -> tuple[str, str] | None:
    try:
        with ZipFile(path) as file:
            columns = {name.removesuffix(".npy") for name in file.namelist()}
    except BadZipFile:
        return "features", "not a whole .npz"
    missing = [column for column in REQUIRED if column not in columns]
    if "embeddings" not in columns:
        return None  # a gallery, or arrays of another kind
    return "features", f"no column {', '.join(missing)}" if missing else ""


def _tell_folder(path: pathlib.Path) -> tuple[str, str] | None:
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
    """Whether two of the folders in a folder hold images of their own, and nothing but images."""
    people = [folder for folder in _some(path) if folder.is_dir() and folder.name[0] not in "._"][:2]
    return len(people) == 2 and all(_holds_images(folder) for folder in people)


def _holds_images(folder: pathlib.Path) -> bool:
    files = [entry for entry in _some(folder) if entry.is_file()][:20]
    return bool(files) and all(file.suffix.lower() in IMAGE_SUFFIXES for file in files)
