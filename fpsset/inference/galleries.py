"""Gallery files: descriptors with their set ids and the digest of the model that computed them."""

import os
import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.data.npz import read_npz, write_npz
from fpsset.data.rows import unit_rows
from fpsset.errors import InputError

_COLUMNS = ("ids", "descriptors", "norms")


class Gallery(NamedTuple):
    """Descriptors of S sets."""

    ids: np.ndarray  # [S] integers or strings
    descriptors: np.ndarray  # [S, D] float32 unit rows
    norms: np.ndarray  # [S] float32, lengths of the descriptors before normalisation


def write_gallery(path: str | os.PathLike, gallery: Gallery, model: str) -> None:
    """Writes a gallery to an `.npz` file, which is replaced atomically.

    Args:
      path: the file to write.
      gallery: the descriptors.
      model: digest of the model that computed the descriptors.

    Raises:
      InputError: the ids are neither integers nor strings, there is not exactly one per descriptor, or a
        descriptor is zero or not finite.
    """
    unit_rows(gallery.descriptors, gallery.norms, str(path), "descriptors")
    if gallery.ids.dtype.kind not in "iuU" or gallery.ids.shape != gallery.norms.shape:
        raise InputError(
            f"{path}: ids must be [{len(gallery.norms)}] integers or strings, one per descriptor; "
            f"they are {gallery.ids.dtype} {list(gallery.ids.shape)}"
        )
    write_npz(pathlib.Path(path), gallery._asdict() | {"model": np.array(model)})


def read_gallery(path: str | os.PathLike, model: str) -> Gallery:
    """Reads a gallery that `write_gallery` wrote.

    Args:
      path: the file to read.
      model: digest of the model whose descriptors the gallery will be compared with.

    Raises:
      InputError: the file is missing or malformed, or its descriptors were computed by another model, so that
        comparing them would be meaningless.
    """
    path = pathlib.Path(path)
    columns = read_npz(path, (*_COLUMNS, "model"))
    if missing := [name for name in (*_COLUMNS, "model") if name not in columns]:
        raise InputError(
            f"{path}: no column '{missing[0]}', so this is not an fpsset gallery; "
            "give a file written by save_gallery"
        )
    if str(columns["model"]) != model:
        raise InputError(
            f"{path}: was made by the model {columns['model']}, not by {model}; descriptors of different "
            "models cannot be compared, so make the gallery again from its features"
        )
    descriptors, norms = unit_rows(columns["descriptors"], columns["norms"], str(path), "descriptors")
    ids = columns["ids"]
    if ids.shape != norms.shape or ids.dtype.kind not in "iuU":
        raise InputError(
            f"{path}: 'ids' must be [{len(norms)}] integers or strings, one per descriptor; it is "
            f"{ids.dtype} {list(ids.shape)}"
        )
    return Gallery(ids, descriptors, norms)
