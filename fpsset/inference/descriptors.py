"""Computes descriptors of ragged sets with several models at once, in few compilations."""

import functools
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from flax import linen as nn

from fpsset.errors import InputError
from fpsset.face_set import FaceSet, RaggedSets
from fpsset.inference.batching import Batch, batches, bucket_growth
from fpsset.inference.kernels import has_kernels
from fpsset.models.set_model import apply_on_one_device, prepare_kernel
from fpsset.parallel import sharded_sets
from fpsset.runtime.progress import tracked

# Batches in flight: the device works on some while others are padded or copied.
_IN_FLIGHT = 3


class Descriptors(NamedTuple):
    """Descriptors of T sets, computed by one model."""

    vectors: np.ndarray  # [T, D] float32 unit rows
    norms: np.ndarray  # [T] float32, lengths of the descriptors before normalisation
    coreset: np.ndarray | None  # [T, K] int64 rows of the table, -1 where a set has fewer than K faces


def describe(
    models: Mapping[str, nn.Module],
    variables: Mapping[str, dict],
    sets: RaggedSets,
    faces_per_batch: int = 16384,
    split_from: int | None = None,
    show: bool = False,
    packed: bool = False,
) -> dict[str, Descriptors]:
    """Runs every model on every set, with one compilation per batch shape for all models together.

    Args:
      models: set models by name.
      variables: variables by model name; models without variables may be left out.
      sets: T sets, none of them empty.
      faces_per_batch: maximum cost of a batch in padded faces, see `batching.buckets`; memory grows with it.
      split_from: split sets padded to at least this many slots over all local devices, if there are several;
        every model must then be a `SetModel`. None splits no set; packs are never split.
      show: whether to show progress.
      packed: let small sets share rows of slots, see `batching.batches`.

    Returns:
      Descriptors by model name, in the order of the sets.

    Raises:
      InputError: a set is empty, or a descriptor is not finite.
    """
    run = _runner(tuple(models.items()))
    mesh = sharded_sets.device_mesh() if split_from is not None and jax.local_device_count() > 1 else None
    variables = {name: variables.get(name, {}) for name in models}
    prepared = _preparer(tuple(models.items()))(variables) if has_kernels() else None
    planned = batches(sets.sizes(), faces_per_batch, packed, bucket_growth(jax.default_backend()))
    count = len(sets.starts) - 1
    collected: dict[str, dict[str, np.ndarray]] = {name: {} for name in models}
    shapes = {_shape_of(batch): _CompileOnce() for batch in planned}
    order = threading.Lock()  # multi-device programs must start in the same order on every device
    storing = threading.Lock()

    def compute(batch: Batch) -> Batch:
        padded = sets.pad(*batch)
        if mesh is not None and batch.which.ndim == 1 and batch.size >= split_from:
            with order:
                outputs = _runner(tuple(models.items()), mesh)(variables, sharded_sets.split(padded, mesh))
        else:
            outputs = shapes[_shape_of(batch)].call(run, variables, padded, prepared)
        outputs = jax.device_get(outputs)
        with storing:
            store(batch.which, batch.size, outputs)
        return batch

    def store(which: np.ndarray, size: int, outputs) -> None:
        rows, mask = sets.slots(which, size)
        rows, real = (rows[:, None] if mask.ndim == 3 else rows), which >= 0
        for name, out in outputs.items():
            fields = {"vectors": out.descriptor, "norms": out.norm}
            if out.coreset_indices is not None:
                picks = out.coreset_indices[: len(which)]
                fields["coreset"] = np.where(picks >= 0, np.take_along_axis(rows, picks, axis=-1), -1)
            for field, value in fields.items():
                value = value[: len(which)][real]
                column = collected[name].setdefault(field, np.empty((count, *value.shape[1:]), value.dtype))
                column[which[real]] = value

    pool = ThreadPoolExecutor(_IN_FLIGHT)
    try:
        done = pool.map(compute, planned)
        if show:
            done = tracked(
                done, count, "aggregating", "templates", lambda batch: int((batch.which >= 0).sum())
            )
        for _ in done:
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    for name, found in collected.items():
        if found and not (finite := np.isfinite(found["vectors"]).all(axis=1)).all():
            raise InputError(
                f"set {int(np.argmin(finite))}: its descriptor by {name} is not finite; check the model's "
                "weights and the norms"
            )
    return {name: Descriptors(f["vectors"], f["norms"], f.get("coreset")) for name, f in collected.items()}


def describe_one(model: nn.Module, variables: dict, sets: RaggedSets, **options) -> Descriptors:
    """`describe` for one model; `options` are passed on."""
    return describe({"model": model}, {"model": variables}, sets, **options)["model"]


def _shape_of(batch: Batch) -> tuple[int, ...]:
    return (batch.count, batch.size, *batch.which.shape[1:])


class _CompileOnce:
    """Makes threads with batches of one shape wait for the first, which compiles the function for all."""

    def __init__(self):
        self._lock, self._compiled = threading.Lock(), False

    def call(self, function, *args):
        if self._compiled:
            return function(*args)
        with self._lock:
            outputs = function(*args)
            self._compiled = True
        return outputs


@functools.lru_cache(maxsize=16)
def _preparer(models: tuple[tuple[str, nn.Module], ...]):
    """One jitted function from the variables of all models to what their kernels read."""
    return jax.jit(lambda variables: {name: prepare_kernel(model, variables[name]) for name, model in models})


@functools.lru_cache(maxsize=16)
def _runner(models: tuple[tuple[str, nn.Module], ...], mesh: jax.sharding.Mesh | None = None):
    """One jitted function for all models. Modules compare by value, so equal models share it."""

    def apply(name: str, model: nn.Module, variables: dict, face_set: FaceSet, prepared: dict | None):
        if mesh is not None:
            return model.apply(variables, face_set, axis_name=sharded_sets.AXIS, method="over_devices")
        if prepared is not None:  # else not asked for, as kernels take a second to trace
            return apply_on_one_device(model, variables, face_set, prepared[name])
        return model.apply(variables, face_set)

    def run(variables: dict[str, dict], face_set: FaceSet, prepared: dict | None = None):
        out = {name: apply(name, model, variables[name], face_set, prepared) for name, model in models}
        # Drop what is not used on the host.
        return {name: o.replace(coreset_mask=None, core_features=None) for name, o in out.items()}

    return jax.jit(run if mesh is None else sharded_sets.over_devices(run, mesh))
