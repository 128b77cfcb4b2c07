"""Reads and writes columns in Parquet: with checksums, and without building more than a file may ask for."""

import os
import pathlib

import numpy as np

from fpsset.data.bounds import require_affordable
from fpsset.errors import InputError, first_line
from fpsset.runtime.digests import arrays_digest, short_digest
from fpsset.runtime.files import replacing

SUFFIXES = (".parquet", ".pq")
VECTORS = ("embeddings", "flipped")  # columns whose cells are lists
# Keys in the metadata of a file's schema.
_BACKBONE, _DIGEST = b"fpsset.backbone", b"fpsset.digest"
_BYTES = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT96": 12}  # of a value; 8 for others


def is_parquet(path: pathlib.Path) -> bool:
    """Whether a file's suffix says that it is Parquet."""
    return path.suffix.lower() in SUFFIXES


def write_parquet(path: pathlib.Path, columns: dict[str, np.ndarray], backbone: str) -> None:
    """Writes columns atomically, with a checksum of every page and a digest of all values.

    Args:
      path: the file.
      columns: [M] each, or [M, D] for `VECTORS`.
      backbone: digest of the weights behind the embeddings.
    """
    pyarrow, parquet = import_pyarrow(path)
    arrays = {
        name: pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), values.shape[1])
        if name in VECTORS
        else pyarrow.array(values)
        for name, values in columns.items()
    }
    metadata = {_BACKBONE: backbone, _DIGEST: _digest(columns, backbone)}
    with replacing(path, private=True) as beside:
        table = pyarrow.table(arrays).replace_schema_metadata(metadata)
        parquet.write_table(table, beside, write_page_checksum=True)


def read_parquet(path: pathlib.Path, known: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Reads the known columns of a Parquet file, and the string 'backbone' from its metadata.

    Raises:
      InputError: the file is missing, unreadable or damaged, has empty cells, or its columns are far larger
        than the file.
    """
    pyarrow, parquet = import_pyarrow(path)
    if not os.path.isfile(path):
        raise InputError(f"{path}: {'is a folder; give a file' if os.path.isdir(path) else 'no such file'}")
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            names = [name for name in file.schema_arrow.names if name in known]
            require_affordable(_wanted_bytes(file.metadata, names), path)
            metadata = file.schema_arrow.metadata or {}
            texts = [name for name in names if name not in VECTORS]
        # Text stays in dictionaries, so that a long name that is repeated takes its place once.
        table = parquet.read_table(
            path, columns=names, page_checksum_verification=True, read_dictionary=texts
        )
        backbone = metadata.get(_BACKBONE, b"").decode()
        columns = {name: _column(name, table[name], path) for name in names}
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, LookupError, OverflowError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({first_line(error)})") from error
    written = metadata.get(_DIGEST)
    if written is not None and written != _digest(columns, backbone).encode():
        raise InputError(f"{path}: is damaged: its values are not those that were written; make it again")
    return {"backbone": backbone, **columns}


def import_pyarrow(path: pathlib.Path):
    """(pyarrow, pyarrow.parquet); raises InputError that names the file if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{path}: Parquet needs pyarrow; pip install 'fpsset[parquet]'") from error
    return pyarrow, pyarrow.parquet


def _digest(columns: dict[str, np.ndarray], backbone: str) -> str:
    """Identifies columns and their values, in any order; text of any width."""
    names = sorted(columns)
    arrays = [columns[name] for name in names]
    arrays = [np.array(a.tolist(), str) if a.dtype.kind == "U" else a for a in arrays]
    return short_digest("\n".join((backbone, *names)), arrays_digest(*arrays))


def _wanted_bytes(metadata, names: list[str]) -> int:
    """Bytes of the columns without encoding, as the file's own directory counts their values."""
    wanted = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema.partition(".")[0] in names:
                each = _BYTES.get(column.physical_type, 8) * column.num_values
                wanted += max(each, column.total_uncompressed_size)
    return wanted


def _column(name: str, values, path: pathlib.Path) -> np.ndarray:
    """A column as an array."""
    from pyarrow import types

    values = values.combine_chunks()
    if values.null_count:
        raise InputError(f"{path}: column '{name}' has {values.null_count} empty cells; fill them")
    if name in VECTORS:
        return _stacked(name, values, types, path)
    if types.is_dictionary(values.type):
        words = values.dictionary
        if not _is_text(words.type, types):
            return values.dictionary_decode().to_numpy(zero_copy_only=False)
        words = np.array(words.to_pylist(), str)
        require_affordable(words.itemsize * len(values), path)
        return words[values.indices.to_numpy(zero_copy_only=False)] if len(words) else np.zeros(0, str)
    if _is_text(values.type, types):
        texts = values.to_pylist()
        require_affordable(4 * max(map(len, texts), default=0) * len(texts), path)
        return np.array(texts, str)
    return values.to_numpy(zero_copy_only=False)


def _is_text(kind, types) -> bool:
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _stacked(column: str, values, types, path: pathlib.Path) -> np.ndarray:
    """Converts a column of lists to an array [M, D]."""
    is_list = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    if not any(test(values.type) for test in is_list):
        raise InputError(f"{path}: '{column}' must be a column of lists, not {values.type}")
    flat = values.flatten()
    if flat.null_count:
        raise InputError(f"{path}: lists in '{column}' have {flat.null_count} empty places; fill them")
    widths = np.asarray(values.value_lengths())
    if not len(widths):
        raise InputError(f"{path}: has no rows; write at least one face")
    if (widths != widths[0]).any():
        row = int(np.argmax(widths != widths[0]))
        raise InputError(f"{path}: row {row} of '{column}' is {widths[row]} wide, but row 0 is {widths[0]}")
    return flat.to_numpy(zero_copy_only=False).reshape(len(values), widths[0])
