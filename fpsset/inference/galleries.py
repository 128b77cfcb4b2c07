"""Gallery files: descriptors under their set ids, tied to the model that made them."""

import os
import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.data.files import read_npz
from fpsset.errors import InputError
from fpsset.face_set import unit_rows
from fpsset.runtime.files import replacing

_COLUMNS = ("ids", "descriptors", "norms")


class Gallery(NamedTuple):
    """S descriptors."""

    ids: np.ndarray  # [S] integers or strings
    descriptors: np.ndarray  # [S, D] float32 unit rows
    norms: np.ndarray  # [S] float32


def write_gallery(path: str | os.PathLike, gallery: Gallery, model: str) -> None:
    """Writes an `.npz` with the columns of `Gallery`, beside and then renamed.

    Args:
      path: the file.
      gallery: what to write.
      model: digest of the model that made the descriptors.

    Raises:
      InputError: ids that are no integers or strings, or not one a descriptor.
    """
    if gallery.ids.dtype.kind not in "iuU" or gallery.ids.shape != gallery.norms.shape:
        raise InputError(
            f"{path}: ids must be [{len(gallery.norms)}] integers or strings; they are {gallery.ids.dtype} "
            f"{list(gallery.ids.shape)}"
        )
    with replacing(pathlib.Path(path)) as beside, beside.open("wb") as file:
        np.savez(file, **gallery._asdict(), model=np.array(model))


def read_gallery(path: str | os.PathLike, model: str) -> Gallery:
    """Reads what `write_gallery` wrote.

    Args:
      path: the file.
      model: digest of the model that new descriptors will come from.

    Raises:
      InputError: the file is missing or malformed, or another model made it: its descriptors cannot
        be compared with new ones.
    """
    path = pathlib.Path(path)
    columns = read_npz(path, (*_COLUMNS, "model"))
    if missing := [name for name in (*_COLUMNS, "model") if name not in columns]:
        raise InputError(f"{path}: no column '{missing[0]}'; it is no gallery of fpsset")
    if str(columns["model"]) != model:
        raise InputError(
            f"{path}: was made by the model {columns['model']}, not by {model}; descriptors of two models "
            "cannot be compared: make the gallery again from its features"
        )
    descriptors, norms = unit_rows(columns["descriptors"], columns["norms"], str(path))
    ids = columns["ids"]
    if ids.shape != norms.shape:
        raise InputError(f"{path}: 'ids' must be [{len(norms)}]; it is {list(ids.shape)}")
    return Gallery(ids, descriptors, norms)
