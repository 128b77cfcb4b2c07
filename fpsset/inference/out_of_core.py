"""Aggregates one set of any size in fixed memory, by reading its faces several times, block by block.

Each pick of farthest-point sampling depends on the earlier ones, so each needs its own pass over the faces.
The attention needs all picks, and then one more pass. Nothing is kept per face between passes: distances to
the picks are recomputed, so that memory is that of one block, whatever the size of the set.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from fpsset.data.rows import unit_rows
from fpsset.errors import InputError
from fpsset.face_set import FaceSet
from fpsset.inference.checks import require_descriptors, scaled_norms
from fpsset.models.selector import Coreset
from fpsset.models.set_model import SetModel
from fpsset.ops.attention import AttentionSums, merge
from fpsset.ops.sampling import farthest_from
from fpsset.ops.ties import outranks, ranked

Blocks = Iterable[tuple[np.ndarray, np.ndarray]] | Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]

_ROWS = 8192


class BlocksAggregated(NamedTuple):
    """The descriptor of one set that was read in blocks."""

    descriptor: np.ndarray  # [D] float32 unit vector
    norm: np.float32  # length of the descriptor before normalisation
    coreset: np.ndarray  # [K] int64 positions in the set, -1 where it has fewer than K faces

    def __repr__(self) -> str:
        return f"BlocksAggregated(descriptor {len(self.descriptor)} wide, coreset {self.coreset.tolist()})"


def aggregate_blocks(
    module: SetModel, variables: dict, blocks: Blocks, dim: int = 0, norm_scale: float = 1.0
) -> BlocksAggregated:
    """Descriptor, norm and coreset of one set; see `SetAggregator.aggregate_blocks`.

    Args:
      module: the set model.
      variables: the model's variables.
      blocks: pairs (embeddings [n, D], norms [n]), readable several times.
      dim: D; 0 for any.
      norm_scale: factor applied to norms before the model sees them.

    Raises:
      InputError: see `SetAggregator.aggregate_blocks`.
    """
    norm_scale = np.float32(norm_scale)
    if module.ignores_norms:
        blocks = functools.partial(_with_norms_of_one, blocks)
    faces, first, length, center = _largest_norm(blocks, dim, norm_scale)
    size, dim = module.coreset_size, len(center)
    read = functools.partial(_read, blocks, dim, norm_scale, faces)
    rows = min(_ROWS, 1 << (faces - 1).bit_length())
    centers, lengths = np.zeros((size, dim), np.float32), np.zeros(size, np.float32)
    picks, centers[0], lengths[0] = [first], center, length
    gamma = variables["params"]["gamma"]
    for count in range(1, min(size, faces)):
        best = None
        for start, block in _padded(read(), rows):
            mask = block.mask & ~np.isin(start + np.arange(rows), picks)
            score, row = jax.device_get(_farthest(block.embeddings, block.norms, mask, centers, count, gamma))
            face = score, block.norms[row], block.embeddings[row]
            if score > -np.inf and (best is None or outranks(*face, best)):
                best, place = face, start + int(row)
        picks.append(place)
        _, lengths[count], centers[count] = best
    places = np.full(size, -1, np.int64)
    places[: len(picks)] = picks
    valid = places >= 0
    coreset = Coreset(valid.astype(np.int32) - 1, valid, lengths[:, None] * centers)
    blocks = (block for _, block in _padded(read(), rows))
    return BlocksAggregated(*descriptor_of_parts(module, variables, coreset, blocks), places)


def descriptor_of_parts(
    module: SetModel, variables: dict, coreset: Coreset, parts: Iterable[FaceSet]
) -> tuple[np.ndarray, np.float32]:
    """Descriptor and norm of one set, from its coreset and all its faces, one part at a time.

    Args:
      module: the set model.
      variables: the model's variables.
      coreset: the set's coreset, without batch axes.
      parts: FaceSets [N] that together hold the set; at least one, all of one shape.

    Returns:
      ([D] float32 unit descriptor, float32 norm).
    """
    sums = None
    for part in parts:
        sums = sums_of_part(module, variables, coreset, part, sums)
    return descriptor_of_sums(module, variables, coreset, sums)


def sums_of_part(
    module: SetModel, variables: dict, coreset: Coreset, part: FaceSet, before: AttentionSums | None
) -> AttentionSums:
    """The sums over one part of a set, merged with those over earlier parts, if any."""
    return _jitted(module).look(variables, coreset, part, before)


def descriptor_of_sums(
    module: SetModel, variables: dict, coreset: Coreset, sums: AttentionSums
) -> tuple[np.ndarray, np.float32]:
    """Descriptor [D] and norm of one set, from the sums over all parts."""
    out = _jitted(module).conclude(variables, coreset, sums)
    require_descriptors(np.asarray(out.descriptor)[None], np.asarray(out.norm)[None], ["of all faces"])
    return np.asarray(out.descriptor), np.float32(out.norm)


class _Jitted(NamedTuple):
    look: Callable
    conclude: Callable


@functools.lru_cache(maxsize=16)
def _jitted(module: SetModel) -> _Jitted:
    """The jitted steps of a model. Modules compare by value, so equal models share them."""

    def look(variables, coreset, part, before):
        # Recomputing the queries for each part costs little beside the part's thousands of faces.
        sums = module.apply(
            variables, module.apply(variables, coreset, method="queries"), part, method="look"
        )
        return sums if before is None else merge(before, sums)

    return _Jitted(jax.jit(look), jax.jit(functools.partial(module.apply, method="conclude")))


_farthest = jax.jit(farthest_from)


def _start(blocks: Blocks) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    again = iter(blocks() if callable(blocks) else blocks)
    if again is blocks:
        raise InputError(
            "blocks: an iterator can be read once only; pass a list or a function that returns a new iterator"
        )
    return again


def _with_norms_of_one(blocks: Blocks) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The blocks with norms of 1, except for malformed ones."""
    return ((faces, np.where(np.asarray(norms) >= 0, 1, norms)) for faces, norms in _start(blocks))


def _largest_norm(blocks: Blocks, dim: int, norm_scale) -> tuple[int, int, np.float32, np.ndarray]:
    """(Number of faces, position of the face with the largest norm, its scaled norm, its unit row [D]).

    Ties are broken by content, see `ops.ties`. For memory-mapped embeddings, only rows of candidate faces are
    read, or the whole part of a block in which several faces have its largest norm.
    """
    faces, best, place = 0, None, 0
    for number, (embeddings, norms) in enumerate(_start(blocks)):
        with np.errstate(over="ignore"):  # `_checked` names the row
            scaled = np.asarray(norms, np.float32).reshape(-1) * norm_scale
        for start in range(0, len(scaled), _ROWS):
            part = scaled[start : start + _ROWS]
            if best is not None and part.max() < best[0]:
                continue
            rows = start + np.flatnonzero(part == part.max())
            if not len(rows):  # NaN; reading all rows names it
                rows = start + np.arange(len(part))
            read = slice(rows[0], rows[0] + 1) if len(rows) == 1 else slice(start, start + len(part))
            units, lengths = _checked(embeddings[read], norms[read], dim, norm_scale, f"block {number}")
            units, lengths = units[rows - read.start], lengths[rows - read.start]
            top = ranked(lengths, lengths, units)[0]
            face = lengths[top], lengths[top], units[top]
            if best is None or outranks(*face, best):
                best, place = face, faces + int(rows[top])
        faces += len(scaled)
    if best is None:
        raise InputError("blocks: hold no faces; pass at least one")
    return faces, place, *best[1:]


def _read(blocks, dim, norm_scale, faces) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields checked faces in parts: ([n, D] float32 unit rows, [n] float32 scaled norms)."""
    seen = 0
    for number, (embeddings, norms) in enumerate(_start(blocks)):
        for start in range(0, len(embeddings), _ROWS):
            part = slice(start, start + _ROWS)
            unit, lengths = _checked(embeddings[part], norms[part], dim, norm_scale, f"block {number}")
            seen += len(lengths)
            yield unit, lengths
    if seen != faces:
        raise InputError(
            f"blocks: held {faces} faces on the first pass and {seen} on a later one; they must not change"
        )


def _padded(parts, rows: int) -> Iterator[tuple[int, FaceSet]]:
    """Regroups parts of any size into (position of the first face, FaceSet [rows]), padding the last."""
    start, filled, block = 0, 0, None
    for embeddings, norms in parts:
        taken = 0
        while taken < len(norms):
            if block is None:  # always a new block: the previous one may still be in use
                block = FaceSet(
                    np.zeros((rows, embeddings.shape[1]), np.float32),
                    np.zeros(rows, np.float32),
                    np.zeros(rows, bool),
                )
            count = min(rows - filled, len(norms) - taken)
            here, there = slice(filled, filled + count), slice(taken, taken + count)
            block.embeddings[here], block.norms[here] = embeddings[there], norms[there]
            block.mask[here] = True
            filled, taken = filled + count, taken + count
            if filled == rows:
                yield start, block
                start, filled, block = start + rows, 0, None
    if block is not None:
        yield start, block


def _checked(embeddings, norms, dim: int, norm_scale, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Checks faces and scales them: ([n, D] float32 unit rows, [n] float32 scaled norms)."""
    embeddings, norms = unit_rows(embeddings, norms, name)
    if dim and embeddings.shape[1] != dim:
        raise InputError(f"{name}: embeddings are {embeddings.shape[1]} wide; the model takes {dim}")
    return embeddings, scaled_norms(norms, norm_scale, name)
