"""Which faces a run trains and is evaluated on, by its configuration."""

import pathlib
from typing import NamedTuple

from fpsset.data.feature_table import FeatureTable, require_people
from fpsset.data.files import read_features
from fpsset.data.ijb import Ijb, SearchLists, read_ijb
from fpsset.data.image_pipeline import ImageSource
from fpsset.data.image_sources import open_images
from fpsset.data.prepared import is_prepared, read_prepared
from fpsset.data.protocol_files import apply_protocol
from fpsset.data.synthetic import make_synthetic
from fpsset.errors import InputError


def training_table(data, seed: int) -> FeatureTable:
    """The faces to train on, validation people included.

    Args:
      data: `config.data`.
      seed: of synthetic faces.

    Raises:
      InputError: no file is given, or it is not usable.
    """
    if data.source == "synthetic":
        return make_synthetic(data.people, seed, data.dim)[0]
    path = pathlib.Path(_given(data.train, "train"))
    if path.is_dir() and not is_prepared(path):
        raise InputError(
            f"{path}: is a folder; give a feature file, or the backbone that embeds its images: "
            "--config.backbone.weights=WEIGHTS"
        )
    table = read_prepared(path).table if is_prepared(path) else read_features(path)
    require_people(table, 4)  # two to train on, two to validate with
    return table


def training_images(data) -> ImageSource:
    """The images to train on, validation people included.

    Args:
      data: `config.data`.

    Raises:
      InputError: none are given, or they are not usable.
    """
    return open_images(pathlib.Path(_given(data.train, "train")))


class EvaluationData(NamedTuple):
    """What to evaluate on: people that training does not see."""

    table: FeatureTable
    pairs_file: str  # empty for all pairs
    search: SearchLists | None  # a 1:N protocol
    note: str  # what the user should know; empty if nothing


def evaluation_data(data, seed: int) -> EvaluationData:
    """The faces to evaluate on, and how.

    Args:
      data: `config.data`; `eval` names a feature file, a folder in IJB's layout or a prepared dataset.
      seed: of synthetic faces; these are drawn apart from the training ones.

    Raises:
      InputError: no file is given, or it is not usable.
    """
    if data.source == "synthetic":
        table = make_synthetic(data.eval_people, seed + 1_000_003, data.dim)[0]
        return EvaluationData(table, data.pairs, None, "")
    path = pathlib.Path(_given(data.eval, "eval"))
    if is_prepared(path):
        held = read_prepared(path)
    elif path.is_dir() or not path.suffix:
        held = read_ijb(path, data.eval_features)
    else:
        held = Ijb(read_features(path), None, None, "")
    if data.protocol:
        faces, search = apply_protocol(held.table, data.protocol)
        held = Ijb(faces, None, search, "")
    if held.pairs_file is None:
        require_people(held.table, 2)
    return EvaluationData(held.table, data.pairs or str(held.pairs_file or ""), held.search, held.note)


def _given(path: str, field: str) -> str:
    if not path:
        raise InputError(f"config.data.{field} is empty; give a feature file: --config.data.{field}=FILE.npz")
    return path
