"""Opens the data that a configuration names, for training and evaluation."""

import os
import pathlib
from typing import NamedTuple

from fpsset.data.face_lists import find_one
from fpsset.data.feature_table import FeatureTable, known_people, require_people
from fpsset.data.files import read_features
from fpsset.data.ijb import Ijb, SearchLists, read_ijb
from fpsset.data.protocol_files import apply_protocol
from fpsset.data.synthetic import make_synthetic
from fpsset.datasets.prepared import PreparedImages, is_prepared, read_prepared
from fpsset.errors import InputError
from fpsset.images.image_sources import FolderImages, ImageSource
from fpsset.images.record_pack import RecordImages


def training_table(data, seed: int) -> FeatureTable:
    """Reads the faces to train on, including those held out for validation.

    Args:
      data: `config.data`.
      seed: random seed of synthetic faces.

    Raises:
      InputError: no file is given, or it cannot be used.
    """
    if data.source == "synthetic":
        return make_synthetic(data.people, seed, data.dim)[0]
    path = pathlib.Path(_require_given(data.train, "train"))
    if path.is_dir() and not is_prepared(path):
        raise InputError(
            f"{path}: is a folder; give a feature file, or a backbone that embeds the images: "
            "--config.data.source=images --config.backbone.weights=WEIGHTS"
        )
    table = known_people(read_prepared(path).table if is_prepared(path) else read_features(path))
    require_people(table, 4)  # two to train on, two to validate with
    return table


def training_images(data) -> ImageSource:
    """Opens the images to train on, including those held out for validation.

    Args:
      data: `config.data`.

    Raises:
      InputError: none are given, or they cannot be used.
    """
    return open_images(pathlib.Path(_require_given(data.train, "train")))


class EvaluationData(NamedTuple):
    """The faces and protocol of an evaluation."""

    table: FeatureTable
    pairs_file: str  # empty for all pairs
    search: SearchLists | None  # a 1:N protocol
    note: str  # a remark for the user; empty if there is none


def evaluation_data(data, seed: int) -> EvaluationData:
    """Reads the faces to evaluate on, and the protocol.

    Args:
      data: `config.data`; `eval` names a feature file, a folder in IJB's layout or a prepared dataset.
      seed: random seed of synthetic faces, which differ from the training ones of the same seed.

    Raises:
      InputError: no file is given, or it cannot be used.
    """
    if data.source == "synthetic":
        table = make_synthetic(data.eval_people, seed + 1_000_003, data.dim)[0]
        return EvaluationData(table, data.pairs, None, "")
    path = pathlib.Path(_require_given(data.eval, "eval"))
    if is_prepared(path):
        evaluated = read_prepared(path)
    elif path.is_dir() or not path.suffix:
        evaluated = read_ijb(path, data.eval_features)
    else:
        evaluated = Ijb(read_features(path), None, None, "")
        if not (data.protocol or data.pairs):
            evaluated = evaluated._replace(table=known_people(evaluated.table))
    if data.protocol:
        faces, search = apply_protocol(evaluated.table, data.protocol)
        evaluated = Ijb(faces, None, search, "")
    if evaluated.pairs_file is None:
        require_people(evaluated.table, 2)
    return EvaluationData(
        evaluated.table, data.pairs or str(evaluated.pairs_file or ""), evaluated.search, evaluated.note
    )


def open_images(path: str | os.PathLike) -> ImageSource:
    """Opens aligned crops of people.

    Args:
      path: a folder with one folder of crops per person; a pack, as a `.rec` file or the folder that
        contains it; or a prepared dataset of images.

    Raises:
      InputError: there are no images, or they cannot be read.
    """
    path = pathlib.Path(path)
    if is_prepared(path):
        return PreparedImages(path)
    pack = find_one("*.rec", path) if path.is_dir() else path
    if pack is not None and pack.suffix == ".rec":
        return RecordImages(pack)
    if path.is_file():
        raise InputError(f"{path}: has no images that can be read; give a folder of images, or a .rec")
    return FolderImages(path)


def _require_given(path: str, field: str) -> str:
    """Returns a path from the config; raises InputError if it is empty."""
    if not path:
        raise InputError(f"config.data.{field} is empty; give a feature file: --config.data.{field}=FILE.npz")
    return path
