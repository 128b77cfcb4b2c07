"""One set of any size in fixed memory: its faces are read block by block, several times.

The picks of farthest-point sampling follow from each other, so each needs a pass of its own; the attention
needs the picks, and then one pass. Nothing is kept of a face between passes, not even its distance to the
picks, which is taken again: a set costs memory for one block, whatever its size.
"""

import functools
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from fpsset.errors import InputError
from fpsset.face_set import FaceSet, unit_rows
from fpsset.models.face_coreset_net import Coreset, Earlier, FaceCoresetNet
from fpsset.ops.attention import start_of
from fpsset.ops.sampling import farthest_from

Blocks = Iterable[tuple[np.ndarray, np.ndarray]] | Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]

_ROWS = 8192


def aggregate_blocks(
    model: FaceCoresetNet, variables: dict, blocks: Blocks, dim: int, norm_scale: float = 1.0
) -> tuple[np.ndarray, np.float32, np.ndarray]:
    """Descriptor, norm and coreset of one set; see `Aggregator.aggregate_blocks`.

    Args:
      model: the linen module.
      variables: its variables.
      blocks: pairs (embeddings [n, dim], norms [n]).
      dim: D.
      norm_scale: factor applied to norms.

    Returns:
      ([D] float32, float32, [K] int64 places in the set, -1 where it has fewer than K faces).

    Raises:
      InputError: see there.
    """
    norm_scale = np.float32(norm_scale)
    faces, first, face = _largest_norm(blocks)
    read = functools.partial(_read, blocks, dim, norm_scale, faces)
    rows = min(_ROWS, 1 << (faces - 1).bit_length())
    centers = np.zeros((model.coreset_size, dim), np.float32)
    lengths = np.zeros(model.coreset_size, np.float32)
    picks = [first]
    centers[:1], lengths[:1] = _checked(*face, dim, norm_scale, "blocks")
    gamma = variables["params"]["gamma"]
    for count in range(1, min(model.coreset_size, faces)):
        best = -np.inf
        for start, block in _padded(read(), rows):
            mask = block.mask & ~np.isin(start + np.arange(rows), picks)
            score, place = _farthest(block.embeddings, block.norms, mask, centers, count, gamma)
            if score > best:  # of equal ones the first stays
                best, row = float(score), int(place)
                found = start + row, block.embeddings[row], block.norms[row]
        picks.append(found[0])
        centers[count], lengths[count] = found[1:]
    places = np.full(model.coreset_size, -1, np.int64)
    places[: len(picks)] = picks
    valid = places >= 0
    coreset = Coreset(valid.astype(np.int32) - 1, valid, lengths[:, None] * centers)
    return *attend_to(model, variables, coreset, (block for _, block in _padded(read(), rows))), places


def attend_to(
    model: FaceCoresetNet, variables: dict, coreset: Coreset, parts: Iterable[FaceSet]
) -> tuple[np.ndarray, np.float32]:
    """Descriptor and norm of a set from its coreset and all its faces, a part at a time.

    Args:
      model: the linen module.
      variables: its variables.
      coreset: of the set, without batch axes.
      parts: FaceSets [N] of one shape, at least one.

    Returns:
      ([D] float32 unit, float32).
    """
    queries = model.num_heads * model.coreset_size
    pooled = jax.tree.map(np.asarray, start_of(jnp.zeros((queries, coreset.features.shape[-1]))))
    run = _runner(model)
    for part in parts:
        descriptor, norm, pooled = run(variables, part, Earlier(coreset, pooled))
    return np.asarray(descriptor), np.float32(norm)


@functools.lru_cache(maxsize=16)
def _runner(model: FaceCoresetNet):
    """One jitted function for a model; modules are compared by value, so it is found again."""

    def run(variables, part, earlier):
        out = model.apply(variables, part, earlier=earlier)
        return out.descriptor, out.norm, out.pooled

    return jax.jit(run)


_farthest = jax.jit(farthest_from)


def _start(blocks: Blocks) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    again = iter(blocks() if callable(blocks) else blocks)
    if again is blocks:
        raise InputError(
            "blocks: an iterator can be read once; give a list, or a function that returns a new iterator"
        )
    return again


def _largest_norm(blocks: Blocks) -> tuple[int, int, tuple[np.ndarray, np.ndarray]]:
    """(Number of faces, place of the first of those of the largest norm, that face as a block of one).

    Reads no embeddings but that face's, where blocks are parts of a file.
    """
    faces, best, place, face = 0, -np.inf, 0, None
    for embeddings, norms in _start(blocks):
        norms = np.asarray(norms, np.float32).reshape(-1)
        if len(norms) and (face is None or norms.max() > best):
            row = int(norms.argmax())
            best, place, face = norms[row], faces + row, (embeddings[row : row + 1], norms[row : row + 1])
        faces += len(norms)
    if face is None:
        raise InputError("blocks: hold no face")
    return faces, place, face


def _read(blocks, dim, norm_scale, faces) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Checked faces: ([n, D] float32 unit rows, [n] float32 scaled norms)."""
    seen = 0
    for number, (embeddings, norms) in enumerate(_start(blocks)):
        for start in range(0, len(embeddings), _ROWS):
            part = slice(start, start + _ROWS)
            unit, lengths = _checked(embeddings[part], norms[part], dim, norm_scale, f"block {number}")
            seen += len(lengths)
            yield unit, lengths
    if seen != faces:
        raise InputError(f"blocks: held {faces} faces when first read and now {seen}; they must not change")


def _padded(parts, rows: int) -> Iterator[tuple[int, FaceSet]]:
    """(Place of the first face, FaceSet [rows]): parts of any sizes laid end to end, cut, and filled up."""
    start, filled, block = 0, 0, None
    for embeddings, norms in parts:
        taken = 0
        while taken < len(norms):
            if block is None:  # a new one: what was handed out may still be read
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
    """([n, D] float32 unit rows, [n] float32 scaled norms)."""
    embeddings, norms = unit_rows(embeddings, norms, name)
    if embeddings.shape[1] != dim:
        raise InputError(f"{name}: embeddings are {embeddings.shape[1]} wide; the model takes {dim}")
    return embeddings, norms * norm_scale
