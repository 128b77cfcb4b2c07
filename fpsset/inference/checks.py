"""Checks of what goes into a model and comes out of it."""

import numpy as np

from fpsset.data.rows import MAX_NORM
from fpsset.errors import InputError, refuse_rows
from fpsset.models.selector import MAX_CORESET_SIZE

_NEAR_ONE = 1e-2  # of the length of a descriptor


def require_coreset_size(size: int) -> None:
    """Raises InputError unless a model may pick as many faces from each set."""
    if not isinstance(size, int | np.integer) or not 1 <= size <= MAX_CORESET_SIZE:
        raise InputError(f"the coreset size is {size}; it must be a whole number in 1 ... {MAX_CORESET_SIZE}")


def scaled_norms(norms: np.ndarray, norm_scale: float, name: str) -> np.ndarray:
    """Norms as a model sees them.

    Args:
      norms: [M] float32.
      norm_scale: of the model.
      name: where the norms come from, for messages.

    Returns:
      [M] float32.

    Raises:
      InputError: a norm is then too large; the message names its row.
    """
    with np.errstate(over="ignore"):
        scaled = norms * np.float32(norm_scale)
    problem = f"times the model's norm_scale {norm_scale:g} is above {MAX_NORM:g}; leave the row out"
    refuse_rows(~(scaled <= MAX_NORM), "norms", problem, name)
    return scaled


def numbered(media, rows: int) -> np.ndarray | None:
    """Media ids as integers [M], or None; raises InputError if their shape is wrong."""
    if media is None:
        return None
    if np.shape(media) != (rows,):
        raise InputError(f"media must be [{rows}], one per row; they are {list(np.shape(media))}")
    return np.unique(media, return_inverse=True)[1]


def require_descriptors(vectors: np.ndarray, norms: np.ndarray, ids) -> None:
    """Raises InputError that names the first set without a descriptor of length 1.

    Args:
      vectors: [T, D] float32 descriptors.
      norms: [T] float32, their lengths before normalisation.
      ids: T names of sets, for the message.
    """
    lengths = np.linalg.norm(np.where(np.isfinite(vectors), vectors, 0), axis=1)
    good = np.isfinite(vectors).all(axis=1) & np.isfinite(norms) & (np.abs(lengths - 1) < _NEAR_ONE)
    if not good.all():
        raise InputError(
            f"set {ids[int(np.argmin(good))]}: has no descriptor: its norms are all zero, its faces cancel "
            f"out, or the model overflows ({int((~good).sum())} such sets); leave it out, or give other norms"
        )
