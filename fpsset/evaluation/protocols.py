"""What an evaluation compares: templates, pairs of them, and galleries to search."""

from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import FeatureTable, templates
from fpsset.data.ijb import SearchLists
from fpsset.errors import InputError
from fpsset.evaluation.identification import Search, search_protocol
from fpsset.evaluation.verification import Pairs, all_pairs, listed_pairs
from fpsset.face_set import RaggedSets
from fpsset.runtime.digests import arrays_digest


class Protocol(NamedTuple):
    """T templates of M faces, the pairs of templates to compare, and the galleries to search."""

    subjects: np.ndarray  # [T]
    sets: RaggedSets  # T sets
    pairs: Pairs
    search: Search | None
    dim: int
    backbone: str  # digest of the weights that made the embeddings; empty if not known
    name: str  # of the feature file
    score: np.ndarray | None = None  # [M] face detector's confidence
    flipped: np.ndarray | None = None  # [M, D] features of the mirrored images


def make_protocol(table: FeatureTable, pairs_file: str = "", search: SearchLists | None = None) -> Protocol:
    """Makes a protocol from a feature table.

    Args:
      table: faces with templates; without them, each subject's faces are split into two templates.
      pairs_file: pairs to score; if empty, all pairs of templates.
      search: lists of a 1:N protocol.

    Raises:
      InputError: a malformed pairs file, a list that names a template without faces, or no genuine or no
        impostor pair.
    """
    if pairs_file and table.template is None:
        raise InputError(f"{table.name}: no column 'template', which the pairs of {pairs_file} need")
    ids, subjects, sets = templates(table)
    pairs = listed_pairs(pairs_file, ids, subjects) if pairs_file else all_pairs(subjects)
    if pairs.same.all() or not pairs.same.any():
        kind = "impostor" if pairs.same.all() else "genuine"
        raise InputError(
            f"{pairs_file or table.name}: holds no {kind} pair of templates; verification needs both"
        )
    found = search_protocol(search.galleries, search.probes, ids) if search else None
    return Protocol(
        subjects, sets, pairs, found, table.dim, table.backbone, table.name, table.score, table.flipped
    )


def protocol_fingerprint(
    subjects: np.ndarray, sizes: np.ndarray, pairs: Pairs, search: Search | None, convention: str
) -> str:
    """Fingerprint of what is compared and by which convention, whatever the embeddings.

    Args:
      subjects: [T] of the templates.
      sizes: [T] faces per template.
      pairs: of the templates.
      search: the 1:N protocol, if any.
      convention: of TAR at FAR.

    Returns:
      16 hexadecimal digits.
    """
    arrays = [subjects, sizes, *pairs]
    if search:
        for name in sorted(search.galleries):
            arrays += [np.array(name), *search.galleries[name]]
        arrays += search.probes
    return arrays_digest(np.array(convention), *arrays)


def faces_fingerprint(sets: RaggedSets) -> str:
    """Fingerprint of the faces: embeddings, norms, media, and which template holds which."""
    media = np.empty(0) if sets.media is None else sets.media
    return arrays_digest(sets.embeddings, sets.norms, media, sets.rows, sets.starts)


def require_backbone(
    protocol: Protocol | FeatureTable, dim: int, backbone: str, other: str = "the model"
) -> None:
    """Raises InputError if embeddings cannot come from the backbone that the model was trained on.

    Args:
      protocol: holds the embeddings.
      dim: width of the model's embeddings; 0 for any.
      backbone: digest of the model's backbone; empty if not known.
      other: what to call the model, in the error message; or a file whose embeddings it takes.
    """
    if dim and protocol.dim != dim:
        fix = "extract both with the same backbone"
        if protocol.dim == 2 * dim:
            fix += "; if each row is a face's embedding followed by its mirror image's, give the first half"
        raise InputError(
            f"{protocol.name}: embeddings are {protocol.dim} wide but those of {other} are {dim}; {fix}"
        )
    if backbone and protocol.backbone and backbone != protocol.backbone:
        raise InputError(
            f"{protocol.name}: its embeddings come from the backbone {protocol.backbone}, those of "
            f"{other} from {backbone}; extract both with the same backbone"
        )
