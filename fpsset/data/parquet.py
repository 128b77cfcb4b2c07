"""Reads and writes columns in Parquet: with checksums, and without building more than a file may ask for."""

import hashlib
import mmap
import os
import pathlib

import numpy as np

from fpsset.data.bounds import require_affordable
from fpsset.errors import InputError, first_line
from fpsset.runtime.files import replacing

SUFFIXES = (".parquet", ".pq")
VECTORS = ("embeddings", "flipped")  # columns whose cells are lists of D numbers
_LISTS = (*VECTORS, "box")  # all columns whose cells are lists
_BACKBONE = b"fpsset.backbone"  # key in the metadata of a file's schema
_SEAL = b"fpsset.sha256="  # followed by the SHA-256 of all other bytes, between a file's data and its footer
_DIGITS = 64
_ROWS_AT_ONCE = 1024


def is_parquet(path: pathlib.Path) -> bool:
    """Whether a file's suffix says that it is Parquet."""
    return path.suffix.lower() in SUFFIXES


def write_parquet(path: pathlib.Path, columns: dict[str, np.ndarray], backbone: str) -> None:
    """Writes columns atomically, with a checksum of every page and a seal over all bytes.

    Other programs read the pages' checksums, and do not see the seal, which lies where nothing refers to.

    Args:
      path: the file.
      columns: [M] each, or [M, D] for lists.
      backbone: digest of the weights behind the embeddings.
    """
    pyarrow, parquet = import_pyarrow(path)
    arrays = {
        name: pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), values.shape[1])
        if name in _LISTS
        else pyarrow.array(values)
        for name, values in columns.items()
    }
    with replacing(path, private=True) as beside:
        table = pyarrow.table(arrays).replace_schema_metadata({_BACKBONE: backbone})
        parquet.write_table(table, beside, write_page_checksum=True)
        with beside.open("r+b") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(-8, os.SEEK_END)  # the length of the footer, and the format's name
            length = int.from_bytes(file.read(4), "little")
            file.seek(-8 - length, os.SEEK_END)
            footer = file.read()
            file.seek(-len(footer), os.SEEK_END)
            file.write(_SEAL + digest.encode() + footer)


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
        _require_unbroken(path)
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            schema = file.schema_arrow
            names = [name for name in schema.names if name in known]
            backbone = (schema.metadata or {}).get(_BACKBONE, b"").decode()
            columns = _read_columns(file, names, path)
        return {"backbone": backbone} | {name: _column(name, columns[name], path) for name in names}
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, LookupError, OverflowError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({first_line(error)})") from error


def parquet_names(path: pathlib.Path) -> tuple[str, ...]:
    """The names of all columns of a file that `read_parquet` has read."""
    return tuple(import_pyarrow(path)[1].read_schema(path).names)


def import_pyarrow(path: pathlib.Path):
    """(pyarrow, pyarrow.parquet); raises InputError that names the file if it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{path}: Parquet needs pyarrow; pip install 'fpsset[parquet]'") from error
    return pyarrow, pyarrow.parquet


def _require_unbroken(path: pathlib.Path) -> None:
    """Raises InputError if a file has a seal that its bytes do not match. Arrow may abort on footers."""
    if not path.stat().st_size:
        raise InputError(f"{path}: cannot be read as Parquet (is empty)")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.rfind(_SEAL)
        if place < 0:
            return
        end = place + len(_SEAL) + _DIGITS
        digest = hashlib.sha256()
        with memoryview(content) as view, view[:place] as before, view[end:] as after:
            digest.update(before)
            digest.update(after)
        if content[place + len(_SEAL) : end] != digest.hexdigest().encode():
            raise InputError(f"{path}: is damaged: its bytes are not those that were written; make it again")


def _read_columns(file, names: list[str], path: pathlib.Path) -> dict:
    """Arrow arrays by name, read little by little: a run of equal values takes few bytes in a file."""
    import pyarrow

    parts, wanted = {name: [] for name in names}, 0
    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=names):
        for name in names:
            values = batch[name]
            decoded = values.dictionary_decode() if pyarrow.types.is_dictionary(values.type) else values
            parts[name].append(decoded)
            wanted += decoded.nbytes
        require_affordable(wanted, path)
    return {
        name: pyarrow.chunked_array(parts[name], parts[name][0].type if parts[name] else pyarrow.null())
        for name in names
    }


def _column(name: str, values, path: pathlib.Path) -> np.ndarray:
    """A column as an array."""
    from pyarrow import types

    if not len(values):
        raise InputError(f"{path}: has no rows; write at least one")
    values = values.combine_chunks()
    if values.null_count:
        raise InputError(f"{path}: column '{name}' has {values.null_count} empty cells; fill them")
    if name in _LISTS:
        return _stacked(name, values, types, path)
    if (
        types.is_string(values.type)
        or types.is_large_string(values.type)
        or types.is_string_view(values.type)
    ):
        texts = values.to_pylist()
        require_affordable(4 * max(map(len, texts)) * len(texts), path)  # as wide as the longest
        return np.array(texts, str)
    return values.to_numpy(zero_copy_only=False)


def _stacked(column: str, values, types, path: pathlib.Path) -> np.ndarray:
    """Converts a column of lists to an array [M, D]."""
    is_list = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    if not any(test(values.type) for test in is_list):
        raise InputError(f"{path}: '{column}' must be a column of lists, not {values.type}")
    flat = values.flatten()
    if flat.null_count:
        raise InputError(f"{path}: lists in '{column}' have {flat.null_count} empty places; fill them")
    widths = np.asarray(values.value_lengths())
    if (widths != widths[0]).any():
        row = int(np.argmax(widths != widths[0]))
        raise InputError(f"{path}: row {row} of '{column}' is {widths[row]} wide, but row 0 is {widths[0]}")
    return flat.to_numpy(zero_copy_only=False).reshape(len(values), widths[0])
