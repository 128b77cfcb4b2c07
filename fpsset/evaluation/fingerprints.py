"""Short hashes of what a result depends on: whether two results may be compared is read off them."""

import hashlib

import numpy as np

from fpsset.evaluation.identification import Search
from fpsset.evaluation.verification import Pairs
from fpsset.face_set import RaggedSets


def protocol_fingerprint(
    subjects: np.ndarray, sizes: np.ndarray, pairs: Pairs, search: Search | None, convention: str
) -> str:
    """Of what is compared with what and how it is read off, whatever the embeddings are.

    Args:
      subjects: [T] of the templates.
      sizes: [T] faces per template.
      pairs: of the templates.
      search: the 1:N protocol, where there is one.
      convention: of TAR at FAR.

    Returns:
      16 hexadecimal digits.
    """
    arrays = [subjects, sizes, *pairs]
    if search:
        for name in sorted(search.galleries):
            arrays += [np.array(name), *search.galleries[name]]
        arrays += search.probes
    return fingerprint(np.array(convention), *arrays)


def faces_fingerprint(sets: RaggedSets) -> str:
    """Of the faces of all templates: embeddings, norms, media, and which template holds which."""
    media = np.empty(0) if sets.media is None else sets.media
    return fingerprint(sets.embeddings, sets.norms, media, sets.rows, sets.starts)


def fingerprint(*arrays: np.ndarray) -> str:
    """Of the types, shapes and values of arrays: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()[:16]
