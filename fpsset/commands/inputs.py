"""What commands read: models by name, and one set of faces from a folder or a feature file."""

import pathlib
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from fpsset.data.feature_table import FeatureTable
from fpsset.errors import InputError
from fpsset.inference.aggregator import Aggregator, PlainAggregator
from fpsset.runtime.progress import StepProgress

PLAIN = "plain"
_LISTED = 8  # sets named in a message


class Faces(NamedTuple):
    """One set of N faces.

    Attributes:
      table: their rows.
      names: of each, for people.
      images: [112, 112, 3] uint8 RGB of each, None where there is none.
      title: what the set is.
    """

    table: FeatureTable
    names: list[str]
    images: list[np.ndarray | None]
    title: str


def load_model(name: str) -> Aggregator:
    """A trained model, or the plain one under its name.

    Raises:
      InputError: there is none.
    """
    if name == PLAIN:
        return PlainAggregator()
    path = pathlib.Path(name)
    if not path.exists():
        raise InputError(
            f"{name}: no such model; give a workdir, converted weights, a checkpoint, or the word '{PLAIN}'"
        )
    from fpsset.inference.loading import load

    return load(path)


def set_ids(table: FeatureTable, by: str | None) -> np.ndarray:
    """The set of each row, [M] int64.

    Raises:
      InputError: there is no such column.
    """
    if by == "template" and table.template is None:
        raise InputError(f"{table.name}: has no column 'template'; use --by subject")
    return table.subject if by == "subject" or table.template is None else table.template


def read_faces(
    source: pathlib.Path,
    which: str | None,
    by: str | None,
    backbone: dict,
    mend: str = "choose one with --set",
) -> Faces:
    """One set: a person's folder of images, or a set of a feature file.

    Args:
      source: a folder with the images of a person, or with a folder a person; a feature file.
      which: the folder or id of the set; None where there is one.
      by: the column that tells the sets of a feature file apart.
      backbone: `weights`, `color_order`, `mean`, `std` and `landmarks`, for images.
      mend: what to do about several sets.

    Raises:
      InputError: no such source, several sets and none named, or no backbone for images.
    """
    if not source.exists():
        raise InputError(f"{source}: no such folder or file")
    if not source.is_dir():
        if backbone["weights"]:
            raise InputError(f"{source}: --weights embeds a folder of images, and this is none")
        return _from_features(source, which, by, mend)
    if by:
        raise InputError(f"{source}: --by names a column of a feature file, and this is a folder of images")
    if not backbone["weights"]:
        raise InputError(f"{source}: images need a backbone; give --weights BACKBONE")
    if not pathlib.Path(backbone["weights"]).exists():
        raise InputError(f"{backbone['weights']}: no such weights; give --weights BACKBONE")
    if backbone["weights"].endswith(".onnx"):
        for field, example in (("color_order", "bgr"), ("mean", "127.5"), ("std", "127.5")):
            if backbone[field] is None:
                option = "--" + field.replace("_", "-")
                raise InputError(
                    f"{backbone['weights']}: does not say what it takes; give {option} {example}"
                )
    return _from_images(source, which, backbone, mend)


def _from_features(path: pathlib.Path, which: str | None, by: str | None, mend: str) -> Faces:
    from fpsset.data.files import read_features

    table = read_features(path)
    ids = set_ids(table, by)
    known = [str(i) for i in np.unique(ids)]
    which = _chosen(which, known, path, mend)
    table = table.take(ids == int(which))
    names = [f"row {row}" for row in np.flatnonzero(ids == int(which))]
    if table.paths is not None:
        names = _short(table.paths.tolist())
    return Faces(table, names, [None] * len(names), f"{path.name}, set {which}")


def _from_images(folder: pathlib.Path, which: str | None, backbone: dict, mend: str) -> Faces:
    from fpsset.images.in_memory import embed_images
    from fpsset.images.listing import list_images, list_person

    images = list_person(folder, backbone["landmarks"])
    if images is None or which:
        images = list_images(folder, backbone["landmarks"])
        people = [path.partition("/")[0] for path in images.paths]
        which = _chosen(which, sorted(set(people)), folder, mend)
        images = images.take(np.flatnonzero(np.array(people) == which))
    else:
        which = folder.resolve().name
    config = ConfigDict({**backbone, "color_order": backbone["color_order"] or "", "dtype": "float32"})
    table, faces, problems = embed_images(images, config)
    for problem in problems:
        StepProgress.say(f"left out: {problem}")
    return Faces(table, _short(table.paths.tolist()), faces, which)


def _chosen(which: str | None, known: list[str], source: pathlib.Path, mend: str) -> str:
    listed = ", ".join(known[:_LISTED]) + ", ..." * (len(known) > _LISTED)
    if which is None and len(known) > 1:
        raise InputError(f"{source}: holds {len(known)} sets ({listed}); {mend}")
    if which is not None and which not in known:
        raise InputError(f"{source}: holds no set {which}; it holds {listed}")
    return which or known[0]


def _short(paths: list[str]) -> list[str]:
    """Paths without the folders that all share and, where that is the same for all, without the suffix."""
    folders = [path.split("/")[:-1] for path in paths]
    shared = 0
    while all(len(f) > shared for f in folders) and len({f[shared] for f in folders}) == 1:
        shared += 1
    names = ["/".join(path.split("/")[shared:]) for path in paths]
    suffixes = {name.rpartition(".")[2] for name in names}
    return [name.rpartition(".")[0] or name for name in names] if len(suffixes) == 1 else names
