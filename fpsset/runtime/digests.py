"""Digests that identify files, arrays and parameters."""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from fpsset.errors import InputError

SEAL = "seal"


def short_digest(*parts: str | bytes | np.ndarray) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the concatenated parts.

    Args:
      *parts: text (hashed as UTF-8), bytes, or arrays (hashed by value only, in row-major order).

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
    """Digest of the dtypes, shapes and values of arrays, as 16 hexadecimal digits."""
    return short_digest(*(part for array in arrays for part in (f"{array.dtype.str} {array.shape}", array)))


def tree_digest(tree: Any) -> str:
    """Digest of the paths, shapes and values of a pytree's arrays, independent of the width of the floats.

    Args:
      tree: pytree of float arrays.

    Returns:
      16 hexadecimal digits.
    """
    parts: list[str | np.ndarray] = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        # Scalars count as [1]: the digests in galleries and thresholds.json were made so.
        values = np.atleast_1d(np.asarray(leaf, np.float32))
        parts += [f"{jax.tree_util.keystr(path)} {values.shape}", values]
    return short_digest(*parts)


def file_sha256(path: pathlib.Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits.

    Raises:
      InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def checksums(root: pathlib.Path, files: Iterable[pathlib.Path]) -> dict[str, str]:
    """SHA-256 of each file, keyed by its path relative to `root`."""
    return {os.path.relpath(path, root): file_sha256(path) for path in files}


def seal(fields: dict) -> dict:
    """Adds a digest of all other fields under the key 'seal', by which `unsealed` finds any change.

    Args:
      fields: of JSON values, without NaN and infinity.

    Example:
      >>> unsealed(seal({"threshold": 0.4}), "a.json", "calibrate again")
      {'threshold': 0.4}
    """
    return {**fields, SEAL: _canonical_sha256(fields)}


def unsealed(fields: dict, name: str, fix: str) -> dict:
    """The fields without their seal.

    Args:
      fields: as `seal` gave them, read back from JSON.
      name: where they come from, for the message.
      fix: how to mend it, for the message.

    Raises:
      InputError: the seal is missing, or the fields are not those that were sealed.
    """
    rest = {key: value for key, value in fields.items() if key != SEAL}
    if SEAL not in fields:
        raise InputError(f"{name}: has no seal, so it is damaged or was written by hand; {fix}")
    if fields[SEAL] != _canonical_sha256(rest):
        raise InputError(f"{name}: differs from what was saved (its seal is another); {fix}")
    return rest


def _canonical_sha256(fields: dict) -> str:
    # Parsed first, because only that makes all keys text and all tuples lists, as they are when read back.
    as_read = json.loads(json.dumps(fields, allow_nan=False))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()
