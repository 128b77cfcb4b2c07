"""Descriptors that depend on nothing but the faces of a set: to the bit, whatever is computed beside them.

In a batch, the bits of a descriptor depend on the shape of the batch, because libraries choose how to sum by
the shapes. Here a program takes the sets of one padded size one after another, so each goes through the same
instructions, whichever sets there are and however many. `in_order` does away with the order of the faces.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fpsset.errors import InputError
from fpsset.face_set import FaceSet, RaggedSets
from fpsset.inference.aggregator import SetAggregator
from fpsset.inference.batching import bucket_size
from fpsset.inference.checks import require_descriptors
from fpsset.inference.descriptors import Descriptors

_SLOTS = 1 << 14  # of one call: as many sets of one size as fit, or one
_MOST_SETS = 1 << 9


def describe_exactly(model: SetAggregator, sets: RaggedSets, names) -> Descriptors:
    """Descriptors of T sets, each the same bits alone and among any others, on machines of one kind.

    Args:
      model: the model.
      sets: T sets, none of them empty, with the norms as the backbone gave them.
      names: T names, for messages.

    Returns:
      Descriptors in the order of the sets; picks are rows of the table.

    Raises:
      InputError: a set has no descriptor, or none of unit length.
    """
    sets, sizes = model.scaled(sets), sets.sizes()
    if not len(sizes):
        raise InputError("there is no set to describe")
    padded = np.array([bucket_size(int(size)) for size in sizes])
    found = None
    for size in np.unique(padded).tolist():
        members = np.flatnonzero(padded == size)
        count = min(_MOST_SETS, max(1, _SLOTS // size))
        run = _program(model.module)
        for start in range(0, len(members), count):
            which = members[start : start + count]
            outputs = jax.device_get(run(model.variables, sets.pad(which, count, size), len(which)))
            vectors, norms, picks = (output[: len(which)] for output in outputs)
            rows, _ = sets.slots(which, size)
            picks = np.where(picks >= 0, np.take_along_axis(rows, picks, axis=1), -1)
            if found is None:
                found = [
                    np.empty((len(sizes), *part.shape[1:]), part.dtype) for part in (vectors, norms, picks)
                ]
            for column, part in zip(found, (vectors, norms, picks), strict=True):
                column[which] = part
    require_descriptors(found[0], found[1], names)
    return Descriptors(*found)


@functools.lru_cache(maxsize=16)
def _program(module):
    """Applies a set model to the first `count` sets of a padded batch, one after another."""

    def run(variables: dict, sets: FaceSet, count: jax.Array):
        def one(number: jax.Array):
            alone = jax.tree.map(lambda array: jax.lax.dynamic_slice_in_dim(array, number, 1), sets)
            found = module.apply(variables, alone)
            return found.descriptor[0], found.norm[0], found.coreset_indices[0]

        shapes = jax.eval_shape(one, jnp.int32(0))
        empty = tuple(jnp.zeros((len(sets.mask), *part.shape), part.dtype) for part in shapes)

        def body(number, outputs):
            return tuple(
                jax.lax.dynamic_update_index_in_dim(output, part, number, 0)
                for output, part in zip(outputs, one(number), strict=True)
            )

        return jax.lax.fori_loop(0, count, body, empty)  # of a length not known when it is compiled

    return jax.jit(run)


def in_order(person: np.ndarray, faces: np.ndarray, *ties) -> np.ndarray:
    """An order of faces that depends on what they are, not on how they are numbered.

    Args:
      person: [M] int, comes first.
      faces: [M] of any fixed-size dtype, in the order of their bytes.
      *ties: lists of M, by which exact copies are ordered.

    Returns:
      [M] int64.
    """
    size = faces.dtype.itemsize
    raw = np.ascontiguousarray(faces).tobytes()
    keys = [raw[start : start + size] for start in range(0, len(raw), size)]
    rows = sorted(range(len(keys)), key=lambda row: (person[row], keys[row], *(tie[row] for tie in ties)))
    return np.array(rows, np.int64)
