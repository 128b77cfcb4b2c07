"""Reads and writes feature files, `.npz` or Parquet."""

import os
import pathlib
import tokenize
import zipfile
import zlib

import numpy as np

from fpsset.data.feature_table import OPTIONAL, REQUIRED, FeatureTable, make_table
from fpsset.errors import InputError, first_line
from fpsset.runtime.files import replacing

_KNOWN = (*REQUIRED, *OPTIONAL)
_VECTORS = ("embeddings", "flipped")
_BACKBONE = b"fpsset.backbone"  # schema-metadata key in Parquet files
# Raised by NumPy and zipfile for files that are damaged, encrypted or in another format.
_UNREADABLE = (
    *(ValueError, OSError, EOFError, RuntimeError, MemoryError, SyntaxError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def read_features(path: str | os.PathLike) -> FeatureTable:
    """Reads a feature file.

    Args:
      path: `.npz` or `.parquet`. Columns: embeddings [M, D] float16/32, norms [M], subject [M] int,
        media [M] int; optional template [M] int, seed [M] int, paths [M] str, score [M], flipped [M, D],
        and backbone, one string that identifies the weights. Other columns are ignored; see `FeatureTable`.

    Returns:
      FeatureTable with float32 unit embeddings.

    Raises:
      InputError: the file is missing, is not in the format of its suffix, or has invalid columns or rows.
    """
    path = pathlib.Path(path)
    known = (*_KNOWN, "backbone")
    read = read_parquet_columns if path.suffix == ".parquet" else read_npz
    columns = read(path, known)
    return make_table(columns, str(path))


def write_features(path: str | os.PathLike, table: FeatureTable) -> None:
    """Writes a feature file atomically, with vectors as float16; a new one is for its owner alone.

    Args:
      path: `.npz` or `.parquet`; its folder is created if missing.
      table: the faces to write.
    """
    path = pathlib.Path(path)
    columns = {c: getattr(table, c) for c in _KNOWN if getattr(table, c) is not None}
    vectors = {c: columns.pop(c).astype(np.float16) for c in _VECTORS if c in columns}
    with replacing(path, private=True) as temporary:
        if path.suffix == ".parquet":
            pyarrow, parquet = _pyarrow(path)
            lists = {
                c: pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(v.reshape(-1)), table.dim)
                for c, v in vectors.items()
            }
            rows = pyarrow.table({**lists, **columns})
            parquet.write_table(rows.replace_schema_metadata({_BACKBONE: table.backbone}), temporary)
        else:
            with temporary.open("wb") as file:
                np.savez(file, **vectors, **columns, backbone=np.array(table.backbone))


def require_writable(path: pathlib.Path) -> None:
    """Raises InputError unless a feature file can be written to `path`; call it before hours of work."""
    if path.suffix == ".parquet":
        _pyarrow(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file name")
    path.parent.mkdir(parents=True, exist_ok=True)


def read_npz(path: pathlib.Path, known: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """Reads arrays from an `.npz` by name, without unpickling anything.

    Args:
      path: the file.
      known: the names to read, where present; None reads every array.

    Raises:
      InputError: the file is missing, or is not an `.npz` of plain arrays.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file")
    try:
        with path.open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise InputError(f"{path}: is a single array, not an .npz; save columns with np.savez")
            return {c: file[c] for c in file.files if known is None or c in known}
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: cannot be read as an .npz of plain arrays ({first_line(error)}); "
            "save columns with np.savez"
        ) from error


def read_parquet_columns(path: pathlib.Path, known: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Reads the known columns of a Parquet file, and the string 'backbone' from its metadata.

    Raises:
      InputError: the file is missing or unreadable, or has empty cells.
    """
    pyarrow, parquet = _pyarrow(path)
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file")
    try:
        schema = parquet.read_schema(path)
        names = [c for c in schema.names if c in known]
        table = parquet.read_table(path, columns=names)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({first_line(error)})") from error
    columns = {"backbone": (schema.metadata or {}).get(_BACKBONE, b"").decode()}
    for column in names:
        values = table[column].combine_chunks()
        if values.null_count:
            raise InputError(f"{path}: column '{column}' has {values.null_count} empty cells; fill them")
        if column in _VECTORS:
            values = _stacked(column, values, pyarrow.types, path)
        elif pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type):
            values = np.array(values.to_pylist(), str)
        else:
            values = values.to_numpy(zero_copy_only=False)
        columns[column] = values
    return columns


def _stacked(column: str, values, types, path: pathlib.Path) -> np.ndarray:
    """Converts a column of lists to an array [M, D]."""
    is_list = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    if not any(test(values.type) for test in is_list):
        raise InputError(f"{path}: '{column}' must be a column of lists, not {values.type}")
    flat = values.flatten().to_numpy(zero_copy_only=False)
    widths = np.asarray(values.value_lengths())
    if not len(widths):
        raise InputError(f"{path}: has no rows; write at least one face")
    if (widths != widths[0]).any():
        row = int(np.argmax(widths != widths[0]))
        raise InputError(f"{path}: row {row} of '{column}' is {widths[row]} wide, but row 0 is {widths[0]}")
    return flat.reshape(len(values), widths[0])


def _pyarrow(path: pathlib.Path):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{path}: Parquet needs pyarrow; pip install 'fpsset[parquet]'") from error
    return pyarrow, pyarrow.parquet
