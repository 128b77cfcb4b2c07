"""Sets of faces of different sizes: padded, with a mask (`FaceSet`), or as rows of a table (`RaggedSets`)."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


def _fields(name: str, **arrays) -> str:
    """'Name(field=dtype[shape], ...)', leaving out fields that are None."""

    def form(array) -> str:
        shape = ",".join(map(str, getattr(array, "shape", ())))
        return f"{array.dtype}[{shape}]" if hasattr(array, "dtype") else type(array).__name__

    return f"{name}({', '.join(f'{key}={form(a)}' for key, a in arrays.items() if a is not None)})"


@struct.dataclass
class FaceSet:
    """A batch of face sets, padded to one size. A pytree.

    In a pack, several sets share a row of slots: S sets with a mask [*P, S, N] over embeddings [*P, 1, N, D],
    where each slot belongs to at most one set. Their descriptors are [*P, S, D].

    Attributes:
      embeddings: [*B, N, D] unit rows, float32, bfloat16 or float16.
      norms: [*B, N] lengths of the embeddings before normalisation, >= 0.
      mask: [*B, N] bool, True where a slot holds a face. Padded slots may hold anything.
      media_size: optional [*B, N] float32 >= 1, how many faces of the set share this one's medium (still or
        video); None where media are not known. Pooling by media and FaceCoresetNet with `by_media` read it.
        Count again after removing faces.
      multiplicity: optional [*B, N] float32 >= 0, how many equal faces a slot stands for in the attention of
        FaceCoresetNet and in the plain model's mean; 1 each when None.
      media: optional [*B, N] int32 in [0, N), equal for the faces of a medium; None where media are not
        known. Padded slots may hold anything. `PosteriorPooling` and `WhitenedMedia` read it.

    Example:
      >>> import numpy as np, fpsset
      >>> fpsset.FaceSet(np.eye(4, dtype="f")[None, :3], np.ones((1, 3), "f"), np.ones((1, 3), bool))
      FaceSet(embeddings=float32[1,3,4], norms=float32[1,3], mask=bool[1,3])
    """

    embeddings: jax.Array
    norms: jax.Array
    mask: jax.Array
    media_size: jax.Array | None = None
    multiplicity: jax.Array | None = None
    media: jax.Array | None = None

    def __repr__(self) -> str:
        return _fields("FaceSet", **vars(self))

    def checked(self) -> "FaceSet":
        """Converts all fields, nested lists included, to JAX arrays and checks them.

        Raises:
          ValueError: the mask is not bool, or the shapes disagree.
        """
        sets = jax.tree.map(jnp.asarray, self, is_leaf=lambda leaf: isinstance(leaf, list | tuple))
        check_faces(sets.embeddings, sets.norms, sets.mask)
        return sets


@struct.dataclass
class SetDescriptor:
    """One descriptor per set. A pytree.

    Attributes:
      descriptor: [*B, D] float32 of unit length; zero for a set without faces.
      norm: [*B] float32 >= 0, the descriptor's length before normalisation.
      coreset_indices: [*B, K] int32 slots of the picked faces, -1 where the set has fewer than K faces; None
        for models without a coreset.
      coreset_mask: [*B, K] bool, True where a pick is valid.
      core_features: [*B, K, D] float32, n_i u_i of the picks, 0 where a pick is not valid.
    """

    descriptor: jax.Array
    norm: jax.Array
    coreset_indices: jax.Array | None = None
    coreset_mask: jax.Array | None = None
    core_features: jax.Array | None = None

    def __repr__(self) -> str:
        return _fields("SetDescriptor", **vars(self))


def pad_sets(
    embeddings_list: Sequence[np.ndarray],
    norms_list: Sequence[np.ndarray],
    size: int | None = None,
    media_list: Sequence[np.ndarray] | None = None,
) -> FaceSet:
    """Stacks ragged sets into one padded FaceSet.

    Args:
      embeddings_list: B arrays [N_b, D] of unit rows; some sets may be empty, but not all of them.
      norms_list: B arrays [N_b], >= 0.
      size: slots per set; the size of the largest set when None.
      media_list: B integer arrays [N_b] of media ids; any integers.

    Returns:
      FaceSet of NumPy arrays: embeddings [B, size, D] float32, norms [B, size] float32, mask [B, size] bool.

    Raises:
      ValueError: there is no face, the embeddings differ in width, the lengths disagree, or a set is larger
        than `size`.

    Example:
      >>> import numpy as np, fpsset
      >>> sets = fpsset.pad_sets([np.eye(4)[:1], np.eye(4)[:3]], [[2.0], [1.0, 2.0, 3.0]])
      >>> sets.mask.sum(axis=1).tolist()
      [1, 3]
    """
    if norms_list is None or any(norms is None for norms in norms_list):
        raise ValueError("norms_list is missing; pass an array per set, of ones to weigh all faces alike")
    embeddings_list = [np.asarray(e) for e in embeddings_list]
    norms_list = [np.asarray(n) for n in norms_list]
    lengths = [len(e) for e in embeddings_list]
    if not sum(lengths):
        raise ValueError("pad_sets needs at least one face; all sets are empty")
    if any(e.ndim != 2 or e.shape[1] != embeddings_list[0].shape[-1] for e in embeddings_list):
        raise ValueError(
            f"all sets must be [N, D] with one width D; their shapes are {[e.shape for e in embeddings_list]}"
        )
    if lengths != [len(n) for n in norms_list]:
        raise ValueError(
            f"give one norm per embedding: the sets have {lengths} embeddings and "
            f"{[len(n) for n in norms_list]} norms"
        )
    if media_list is not None and lengths != [len(m) for m in media_list]:
        raise ValueError(
            f"give one media id per embedding: the sets have {lengths} embeddings and "
            f"{[len(m) for m in media_list]} media ids"
        )
    starts = np.concatenate([[0], np.cumsum(lengths)])
    sets = RaggedSets(
        np.concatenate(embeddings_list),
        np.concatenate(norms_list),
        None if media_list is None else np.concatenate([np.asarray(m) for m in media_list]),
        np.arange(starts[-1]),
        starts,
    )
    size = max(lengths) if size is None else size
    if max(lengths) > size:
        raise ValueError(f"the largest set has {max(lengths)} faces, more than size = {size}; raise size")
    return sets.pad(np.arange(len(lengths)), len(lengths), size)


class RaggedSets(NamedTuple):
    """T sets of any sizes over one table of M faces: set t consists of rows[starts[t]:starts[t + 1]]."""

    embeddings: np.ndarray  # [M, D] float, unit rows
    norms: np.ndarray  # [M] float, >= 0
    media: np.ndarray | None  # [M] int, None if unknown
    rows: np.ndarray  # [M'] int64 rows of the table, set by set
    starts: np.ndarray  # [T + 1] int64

    def __repr__(self) -> str:
        sets, dim = len(self.starts) - 1, self.embeddings.shape[-1]
        return f"RaggedSets({sets} sets of {len(self.rows)} faces, embeddings {dim} wide)"

    def sizes(self) -> np.ndarray:
        """Number of faces in each set: [T] int64."""
        return np.diff(self.starts)

    def slots(self, which: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The table rows of some sets, padded.

        Args:
          which: [B] int, the sets; or [B, S] for packs, whose sets share a row of slots, -1 where a pack
            has fewer than S sets.
          size: N, slots per row; at least the number of faces in each set or pack.

        Returns:
          ([B, N] int64 rows of the table, [B, N] or [B, S, N] bool, True where a slot belongs to the set).
        """
        packs = which if which.ndim == 2 else which[:, None]
        held = np.where(packs >= 0, self.sizes()[packs], 0)
        ends = np.cumsum(held, axis=1)[..., None]
        offsets = np.arange(size) - (ends - held[..., None])  # [B, S, N], each slot relative to each set
        mask = (offsets >= 0) & (offsets < held[..., None])
        places = np.where(mask, self.starts[packs][..., None] + offsets, 0).sum(1)
        rows = np.where(mask.any(1), self.rows[places], 0)
        return rows, mask if which.ndim == 2 else mask[:, 0]

    def pad(self, which: np.ndarray, count: int, size: int) -> FaceSet:
        """Pads sets or packs to one size, and the batch with empty sets.

        Args:
          which: [B] or [B, S] int, see `slots`.
          count: rows of the result, at least B.
          size: N, slots per row.

        Returns:
          FaceSet of NumPy arrays: float32 [count, N, D] for sets, [count, 1, N, D] for packs.
        """
        rows, mask = self.slots(which, size)
        packed = mask.ndim == 3
        rows, mask = (np.pad(a, [(0, count - len(a))] + [(0, 0)] * (a.ndim - 1)) for a in (rows, mask))
        real = mask.any(1) if packed else mask
        embeddings = np.asarray(self.embeddings[rows], np.float32)
        embeddings[~real] = 0
        norms = np.where(real, self.norms[rows], 0).astype(np.float32)
        media = sizes = None
        if self.media is not None:
            media, sizes = group_media(self.media[rows], real, mask.argmax(1) if packed else 0)
        sets = FaceSet(embeddings, norms, mask, sizes, media=media)
        if packed:  # one row of slots for all sets of a pack
            sets = jax.tree.map(lambda array: array[:, None], sets).replace(mask=mask)
        return sets


def group_rows(
    embeddings: np.ndarray, norms: np.ndarray, set_ids: np.ndarray, media: np.ndarray | None = None
) -> tuple[np.ndarray, RaggedSets]:
    """Groups the rows of a table by set id, keeping their order within each set.

    Args:
      embeddings: [M, D] float unit rows.
      norms: [M] float, >= 0.
      set_ids: [M] integers or strings, the set of each row.
      media: optional [M] int, the medium of each row.

    Returns:
      ([T] unique ids, sorted; the T sets in that order).
    """
    ids, codes = np.unique(set_ids, return_inverse=True)
    rows = np.argsort(codes, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(ids)))])
    return ids, RaggedSets(embeddings, norms, media, rows, starts)


def group_media(
    media: np.ndarray, mask: np.ndarray, owner: np.ndarray | int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """`FaceSet.media` and `FaceSet.media_size` of padded sets.

    Args:
      media: [B, N] integers or strings; padding may hold anything.
      mask: [B, N] bool.
      owner: [B, N] int, which of the sets in a row a slot belongs to; 0 where a row is one set.

    Returns:
      ([B, N] int32, the first slot of the same set and medium, a padded slot's own; [B, N] float32, how many
      slots these are, 1 on padding).
    """
    most = np.max(owner, initial=0) + 1
    sets = np.broadcast_to(most * np.arange(len(mask))[:, None] + owner, mask.shape)
    slots = np.broadcast_to(np.arange(mask.shape[1], dtype=np.int32), mask.shape)
    order, runs = _runs(sets[mask], media[mask])
    first = np.flatnonzero(np.diff(runs, prepend=-1))  # slots rise within a run, since sorting is stable
    codes, sizes = slots.copy(), np.ones(mask.shape, np.float32)
    one_code, one_size = np.empty(len(order), np.int32), np.empty(len(order), np.float32)
    one_code[order], one_size[order] = slots[mask][order][first][runs], np.bincount(runs)[runs]
    codes[mask], sizes[mask] = one_code, one_size
    return codes, sizes


def count_alike(sets: np.ndarray, media: np.ndarray) -> np.ndarray:
    """How many rows have the same set and medium as each: [M], [M] -> [M] int64."""
    order, runs = _runs(sets, media)
    counts = np.empty(len(order), np.int64)
    counts[order] = np.bincount(runs)[runs]
    return counts


def _runs(sets: np.ndarray, media: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(An order that brings rows of one set and medium together, the number of each ordered row's run)."""
    order = np.lexsort((media, sets))
    sets, media = sets[order], media[order]
    new = np.concatenate([[True], (sets[1:] != sets[:-1]) | (media[1:] != media[:-1])])[: len(order)]
    return order, np.cumsum(new) - 1


def check_faces(embeddings, norms, mask) -> None:
    """Checks that embeddings, norms and mask fit together, as sets or as packs.

    Args:
      embeddings: [*B, N, D]; [*P, 1, N, D] for packs.
      norms: [*B, N]; [*P, 1, N] for packs.
      mask: [*B, N] bool; [*P, S, N] for packs.

    Raises:
      ValueError: the mask is not bool, or the shapes disagree.
    """
    for name, array in (("embeddings", embeddings), ("norms", norms), ("mask", mask)):
        if array is None:
            raise ValueError(f"{name} are missing; pass an array, e.g. norms of 1 to weigh all faces alike")
    if mask.dtype != bool:
        raise ValueError(
            f"mask must be bool, True where a slot holds a face; it is {mask.dtype}: pass mask > 0"
        )
    pack = (*mask.shape[:-2], 1, *mask.shape[-1:]) if mask.ndim > 1 else mask.shape
    if embeddings.shape[:-1] != norms.shape or norms.shape not in (mask.shape, pack):
        raise ValueError(
            "shapes of embeddings, norms and mask disagree: they must be [*B, N, D], [*B, N] and [*B, N], or "
            "for packs [*P, 1, N, D], [*P, 1, N] and [*P, S, N]; "
            f"they are {embeddings.shape}, {norms.shape} and {mask.shape}"
        )
