"""Opens the data that a configuration names, for training and evaluation, and reports what is missing."""

import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from fpsset.data.face_lists import find_one
from fpsset.data.feature_table import FeatureTable, known_people, require_people
from fpsset.data.files import read_features
from fpsset.data.ijb import Ijb, SearchLists, ijb_files, read_ijb
from fpsset.data.protocol_files import apply_protocol
from fpsset.data.synthetic import make_synthetic
from fpsset.datasets.prepared import PreparedImages, is_prepared, read_prepared
from fpsset.errors import InputError
from fpsset.images.image_sources import FolderImages, ImageSource
from fpsset.images.record_pack import RecordImages

_RUN = "python -m fpsset.main --config configs/"
_GET_FEATURES = (
    f"extract features from images with {_RUN}extract.py --config.images=DIR --config.weights=WEIGHTS "
    f"--config.out={{path}}, or from augmented clips of WebFace4M with {_RUN}webface4m.py:cache"
)
_GET_IMAGES = (
    "give a folder per person, a .rec pack or a prepared dataset; the authors of WebFace4M provide it on "
    f"request, and {_RUN}prepare.py:webface4m_subset --config.source=WEBFACE4M makes the subset"
)
_GET_BACKBONE = (
    "convert the backbone that embeds images, in the paper an IR-101 by AdaFace's authors: fpsset convert "
    "adaface_ir101_webface4m.ckpt {path}"
)
_GET_MODEL = (
    "give a workdir that contains checkpoints/, a folder from fpsset convert, or a published checkpoint; "
    "FaceCoresetNet's authors publish theirs with their code"
)


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


def require_files(config) -> None:
    """Checks that everything a run will read exists, before it reads anything.

    Args:
      config: checked configuration.

    Raises:
      InputError: something is missing; the message names everything that is.
    """
    missing = list(_missing(config))
    if missing:
        raise InputError("; and ".join(missing))


def _missing(config) -> Iterator[str]:
    if config.mode == "eval" and config.weights:
        yield from _unless_there(config.weights, "no such weights to evaluate", _GET_MODEL)
    if config.data.source == "synthetic":
        return
    if config.mode == "train" and config.data.train:
        images = config.data.source == "images"
        fix, problem = (_GET_IMAGES, "no such images") if images else (_GET_FEATURES, "no such file")
        yield from _unless_there(config.data.train, f"{problem} to train on", fix)
        yield from _unless_there(config.backbone.weights, "no such weights", _GET_BACKBONE)
    path = pathlib.Path(config.data.eval)
    if is_prepared(path) or not config.data.eval:
        return
    if path.suffix and not path.is_dir():
        yield from _unless_there(str(path), "no such file to evaluate on", _GET_FEATURES)
        return
    try:
        ijb_files(path, config.data.eval_features)
    except InputError as error:
        yield str(error)


def _unless_there(path: str, problem: str, fix: str) -> Iterator[str]:
    if path and not pathlib.Path(path).exists():
        yield f"{path}: {problem}; {fix.format(path=path)}"


def _require_given(path: str, field: str) -> str:
    """Returns a path from the config; raises InputError if it is empty."""
    if not path:
        raise InputError(f"config.data.{field} is empty; give a feature file: --config.data.{field}=FILE.npz")
    return path
