"""Which faces a run trains and is evaluated on, by its configuration; and what of them is missing."""

import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from fpsset.data.feature_table import FeatureTable, require_people
from fpsset.data.files import read_features
from fpsset.data.ijb import Ijb, SearchLists, find_one, ijb_files, read_ijb
from fpsset.data.protocol_files import apply_protocol
from fpsset.data.synthetic import make_synthetic
from fpsset.datasets.prepared import PreparedImages, is_prepared, read_prepared
from fpsset.errors import InputError
from fpsset.images.image_sources import FolderImages, ImageSource
from fpsset.images.record_pack import RecordImages

_RUN = "python -m fpsset.main --config configs/"
_FEATURES = (
    f"features are made of images: {_RUN}extract.py --config.images=DIR --config.weights=WEIGHTS "
    f"--config.out={{path}}, or of augmented clips of WebFace4M's with {_RUN}webface4m.py:cache"
)
_IMAGES = (
    "a folder per person, a .rec pack of one, or a prepared dataset; WebFace4M comes from its authors, on "
    f"request, and {_RUN}prepare.py:webface4m_subset --config.source=WEBFACE4M makes the subset"
)
_BACKBONE = (
    "the backbone that embeds images, an IR-101 of AdaFace's authors in the paper: fpsset convert "
    "adaface_ir101_webface4m.ckpt {path}"
)
_MODEL = (
    "a workdir that holds checkpoints/, a folder that fpsset convert wrote, or a published checkpoint; "
    "FaceCoresetNet's authors publish theirs with its code"
)


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
            f"{path}: is a folder; give a feature file, or a backbone that embeds its images: "
            "--config.data.source=images --config.backbone.weights=WEIGHTS"
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


def open_images(path: str | os.PathLike) -> ImageSource:
    """Opens the images of people that training takes.

    Args:
      path: a folder with a folder of aligned crops per person; a pack of such crops, a `.rec` file or the
        folder that holds one; or a prepared dataset of them.

    Raises:
      InputError: there are none.
    """
    path = pathlib.Path(path)
    if is_prepared(path):
        return PreparedImages(path)
    pack = find_one("*.rec", path) if path.is_dir() else path
    if pack is not None and pack.suffix == ".rec":
        return RecordImages(pack)
    if path.is_file():
        raise InputError(f"{path}: holds no images that can be read; give a folder of them, or a .rec")
    return FolderImages(path)


def require_files(config) -> None:
    """Looks for all that a run will read before it reads any of it.

    Args:
      config: checked configuration.

    Raises:
      InputError: names everything that is missing.
    """
    missing = list(_missing(config))
    if missing:
        raise InputError("; and ".join(missing))


def _missing(config) -> Iterator[str]:
    if config.mode == "eval" and config.weights:
        yield from _unless_there(config.weights, "no such weights to evaluate", _MODEL)
    if config.data.source == "synthetic":
        return
    if config.mode == "train" and config.data.train:
        images = config.data.source == "images"
        fix, what = (_IMAGES, "no such images") if images else (_FEATURES, "no such file")
        yield from _unless_there(config.data.train, f"{what} to train on", fix)
        yield from _unless_there(config.backbone.weights, "no such weights", _BACKBONE)
    path = pathlib.Path(config.data.eval)
    if is_prepared(path) or not config.data.eval:
        return
    if path.suffix and not path.is_dir():
        yield from _unless_there(str(path), "no such file to evaluate on", _FEATURES)
        return
    try:
        ijb_files(path, config.data.eval_features)
    except InputError as error:
        yield str(error)


def _unless_there(path: str, what: str, fix: str) -> Iterator[str]:
    if path and not pathlib.Path(path).exists():
        yield f"{path}: {what}; {fix.format(path=path)}"


def _given(path: str, field: str) -> str:
    if not path:
        raise InputError(f"config.data.{field} is empty; give a feature file: --config.data.{field}=FILE.npz")
    return path
