"""Descriptors of ragged sets by several models at once, in few compilations."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from flax import linen as nn

from fpsset.face_set import FaceSet, RaggedSets, bucketed
from fpsset.parallel import set_axis
from fpsset.progress import tracked


class Descriptors(NamedTuple):
    """Descriptors of T sets by one model."""

    vectors: np.ndarray  # [T, D] float32 unit
    norms: np.ndarray  # [T] float32
    coreset: np.ndarray | None  # [T, K] int64 rows of the table, -1 beyond a set's size


def describe(
    models: Mapping[str, nn.Module],
    variables: Mapping[str, dict],
    sets: RaggedSets,
    faces_per_batch: int = 16384,
    split_from: int | None = None,
    show: bool = False,
) -> dict[str, Descriptors]:
    """Runs every model on every set; one compilation a bucket of set sizes, whatever the models.

    Args:
      models: set models by name.
      variables: their variables; models without may be left out.
      sets: T sets, none empty.
      faces_per_batch: padded faces a batch; memory grows with it.
      split_from: slots from which a set is split over all local devices, where there are several; its
        models must take `axis_name`. None: never.
      show: progress.

    Returns:
      Descriptors by name, in the order of the sets.

    Raises:
      InputError: a set is empty.
    """
    run = _runner(tuple(models.items()))
    mesh = set_axis.device_mesh() if split_from is not None and jax.local_device_count() > 1 else None
    variables = {name: variables.get(name, {}) for name in models}
    count = len(sets.starts) - 1
    collected: dict[str, dict[str, np.ndarray]] = {name: {} for name in models}

    def store(which: np.ndarray, size: int, outputs) -> None:
        rows = sets.slots(which, size)[0]
        for name, out in jax.device_get(outputs).items():
            fields = {"vectors": out.descriptor, "norms": out.norm}
            if out.coreset_indices is not None:
                picks = out.coreset_indices[: len(which)]
                fields["coreset"] = np.where(picks >= 0, np.take_along_axis(rows, picks, axis=1), -1)
            for field, value in fields.items():
                column = collected[name].setdefault(field, np.empty((count, *value.shape[1:]), value.dtype))
                column[which] = value[: len(which)]

    pending = None  # a batch is fetched when the next one is under way
    batches = bucketed(sets, faces_per_batch)
    if show:
        batches = tracked(batches, count, "aggregating", "templates", lambda batch: len(batch[0]))
    for which, batch in batches:
        if mesh is not None and batch.mask.shape[1] >= split_from:
            outputs = _runner(tuple(models.items()), mesh)(variables, set_axis.split(batch, mesh))
        else:
            outputs = run(variables, batch)
        if pending is not None:
            store(*pending)
        pending = which, batch.mask.shape[1], outputs
    if pending is not None:
        store(*pending)
    return {name: Descriptors(f["vectors"], f["norms"], f.get("coreset")) for name, f in collected.items()}


@functools.lru_cache(maxsize=16)
def _runner(models: tuple[tuple[str, nn.Module], ...], mesh: jax.sharding.Mesh | None = None):
    """One jitted function for these models; modules are compared by value, so it is found again."""
    options = {} if mesh is None else {"axis_name": set_axis.AXIS}

    def run(variables: dict[str, dict], face_set: FaceSet):
        out = {name: model.apply(variables[name], face_set, **options) for name, model in models}
        # What is not asked for need not come back to the host.
        return {name: o.replace(coreset_mask=None, core_features=None) for name, o in out.items()}

    return jax.jit(run if mesh is None else set_axis.over_devices(run, mesh))
