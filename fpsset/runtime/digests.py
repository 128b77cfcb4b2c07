"""Short hashes: whether two things are the same is read off these."""

import hashlib
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from fpsset.errors import InputError


def short_digest(*parts: str | bytes | np.ndarray) -> str:
    """SHA-256 of parts laid end to end, cut to 16 hexadecimal digits.

    Args:
      *parts: text as UTF-8, bytes, or arrays by their values alone, in row-major order.

    >>> short_digest("a", "b") == short_digest("ab")
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode())
        elif isinstance(part, np.ndarray):
            digest.update(np.ascontiguousarray(part).data.cast("B") if part.size else b"")
        else:
            digest.update(part)
    return digest.hexdigest()[:16]


def arrays_digest(*arrays: np.ndarray) -> str:
    """Digest of the dtypes, shapes and values of arrays: 16 hexadecimal digits."""
    return short_digest(*(part for array in arrays for part in (f"{array.dtype.str} {array.shape}", array)))


def tree_digest(tree: Any) -> str:
    """Digest of the names, shapes and values of a pytree's arrays, whatever the width of their floats.

    Args:
      tree: of float arrays.

    Returns:
      16 hexadecimal digits.
    """
    parts: list[str | np.ndarray] = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        values = np.asarray(leaf, np.float32)
        parts += [f"{jax.tree_util.keystr(path)} {values.shape}", values]
    return short_digest(*parts)


def file_sha256(path: pathlib.Path) -> str:
    """The SHA-256 of a file: 64 hexadecimal digits.

    Raises:
      InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def checksums(root: pathlib.Path, files: Iterable[pathlib.Path]) -> dict[str, str]:
    """SHA-256 of files, by their paths relative to a folder."""
    return {os.path.relpath(path, root): file_sha256(path) for path in files}
