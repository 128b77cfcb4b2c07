"""Reads and writes `.npz` and `.npy` files of plain arrays, checked to the last bit.

A zip has a checksum of each entry's content, but not of its directory, and NumPy reads only as many bytes as
the array's header asks for. So every entry is read to its end, its header must ask for exactly what is there,
and the name of every entry, wanted or not, must be the same in both of its places.
"""

import io
import math
import os
import pathlib
import struct
import tokenize
import warnings
import zipfile
import zlib

import numpy as np

from fpsset.data.bounds import require_affordable
from fpsset.errors import InputError, first_line
from fpsset.runtime.files import replacing

_CHUNK = 1 << 20
_SUFFIX = ".npy"
_SAVE = "save columns with np.savez"
# Raised by NumPy and zipfile for files that are damaged, encrypted or in another format.
_UNREADABLE = (
    *(ValueError, OSError, EOFError, RuntimeError, MemoryError, SyntaxError, struct.error, LookupError),
    *(OverflowError, TypeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def write_npz(path: pathlib.Path, columns: dict[str, np.ndarray]) -> None:
    """Writes arrays to an `.npz` atomically."""
    with replacing(path, private=True) as beside, beside.open("wb") as file:
        np.savez(file, **columns)


def read_npz(path: pathlib.Path, known: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """Reads arrays from an `.npz` by name, without unpickling anything.

    Args:
      path: the file.
      known: the names to read, where present; None reads every array.

    Raises:
      InputError: the file is missing or damaged, is not an `.npz` of plain arrays, or its arrays are far
        larger than the file.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: {'is a folder; give a file' if os.path.isdir(path) else 'no such file'}")
    try:
        with path.open("rb") as raw:
            if raw.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX:
                raise InputError(f"{path}: is a single array, not an .npz; {_SAVE}")
            with zipfile.ZipFile(raw) as file:
                return _read_entries(file, path, known)
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: cannot be read as an .npz of plain arrays ({first_line(error)}); {_SAVE}"
        ) from error


def npz_names(path: pathlib.Path) -> tuple[str, ...]:
    """The names of all arrays in an `.npz` that `read_npz` has read."""
    with zipfile.ZipFile(path) as file:
        return tuple(name.removesuffix(_SUFFIX) for name in file.namelist())


def read_npy(path: pathlib.Path) -> np.ndarray:
    """Reads an array from an `.npy`, without unpickling anything.

    Raises:
      InputError: the file is missing or damaged, or holds no plain array.
    """
    try:
        return _array(np.fromfile(path, np.uint8), path.stem)
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: cannot be read as an .npy of numbers ({first_line(error)}); use np.save"
        ) from error


def _read_entries(
    file: zipfile.ZipFile, path: pathlib.Path, known: tuple[str, ...] | None
) -> dict[str, np.ndarray]:
    wanted, names = [], set()
    for entry in file.infolist():
        name = entry.filename.removesuffix(_SUFFIX)
        if name in names:
            raise ValueError(f"two arrays '{name}'")
        names.add(name)
        if entry.filename != name and (known is None or name in known):
            wanted.append((name, entry))
        else:
            file.open(entry).close()  # raises if its name differs where its content begins
    require_affordable(sum(entry.file_size for _, entry in wanted), path)
    return {name: _array(_content(file, entry), name) for name, entry in wanted}


def _content(file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """All bytes of an entry; reading beyond the last compares their checksum."""
    held = np.empty(entry.file_size, np.uint8)
    with file.open(entry) as stream:
        start = 0
        while count := stream.readinto(memoryview(held[start : start + _CHUNK])):
            start += count
        if start != len(held) or stream.read(1):
            raise EOFError(f"'{entry.filename}' has another length than its directory says")
    return held


def _array(held: np.ndarray, name: str) -> np.ndarray:
    """The array in the bytes of an `.npy`, without a copy."""
    header = io.BytesIO(held[: 1 << 17].tobytes())
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(header)
    if version not in read:
        raise ValueError(f"'{name}' has version {version} of the format, for names that no column has")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of headers that Python 2 wrote, or that it refuses next
        shape, fortran, dtype = read[version](header)
    if dtype.hasobject:
        raise ValueError(f"'{name}' holds Python objects, which are not read; convert it to numbers or text")
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(held) - header.tell():
        raise ValueError(f"'{name}' is {dtype} {list(shape)}, but holds {len(held) - header.tell()} bytes")
    if not dtype.itemsize:
        return np.zeros(shape, dtype)
    return held[header.tell() :].view(dtype).reshape(shape, order="F" if fortran else "C")
