"""Reads and writes feature files, `.npz` or Parquet."""

import os
import pathlib

import numpy as np

from fpsset.data.feature_table import OPTIONAL, PLACE, REQUIRED, FeatureTable, make_table
from fpsset.data.npz import npz_names, read_npz, write_npz
from fpsset.data.parquet import (
    import_pyarrow,
    is_parquet,
    parquet_names,
    read_parquet,
    write_parquet,
)
from fpsset.errors import InputError

_KNOWN = (*REQUIRED, *OPTIONAL, *PLACE)
_HALF = ("embeddings", "flipped")  # columns of which float16 keeps enough


def read_features(path: str | os.PathLike) -> FeatureTable:
    """Reads a feature file.

    Args:
      path: `.npz`, or `.parquet` or `.pq`. Columns: embeddings [M, D] float16/32, norms [M]; subject [M],
        media [M] and optional template [M], integers or strings; optional seed [M] int, paths [M] str,
        score [M], flipped [M, D], time [M], box [M, 4], and backbone, one string that identifies the weights.
        Other columns are ignored; see `FeatureTable`. A subject that is negative or empty is nobody known.

    Returns:
      FeatureTable with float32 unit embeddings.

    Raises:
      InputError: the file is missing or damaged, is not in the format of its suffix, has invalid columns or
        rows, or wants far more memory than it has bytes.
    """
    path = pathlib.Path(path)
    read, names = (read_parquet, parquet_names) if is_parquet(path) else (read_npz, npz_names)
    columns = read(path, (*_KNOWN, "backbone"))
    complete = columns.keys() >= set(REQUIRED)
    return make_table(columns, str(path), None if complete else names(path))


def write_features(path: str | os.PathLike, table: FeatureTable) -> None:
    """Writes a feature file atomically, with vectors as float16 and checksums.

    A new file is for its owner alone.

    Args:
      path: `.npz`, or `.parquet` or `.pq`; its folder is created if missing.
      table: the faces to write.
    """
    path = pathlib.Path(path)
    columns = {c: table.named(c) for c in _KNOWN if getattr(table, c) is not None}
    columns |= {c: columns[c].astype(np.float16) for c in _HALF if c in columns}
    if is_parquet(path):
        write_parquet(path, columns, table.backbone)
    else:
        write_npz(path, columns | {"backbone": np.array(table.backbone)})


def require_writable(path: pathlib.Path) -> None:
    """Raises InputError unless a feature file can be written to `path`; call it before hours of work."""
    if is_parquet(path):
        import_pyarrow(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file name")
    path.parent.mkdir(parents=True, exist_ok=True)
