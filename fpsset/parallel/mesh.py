"""The data axis: one mesh axis of all devices, that batches and the head's classes are split over.

The set model is on every device; each works on its part of the batch. The head's kernel, the one array
that grows with the number of people, is cut by columns, and so are the optimizer's moments of it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fpsset.errors import InputError

AXIS = "data"


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis over `devices`; over those of all processes when None."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def abstract_mesh(devices: int) -> AbstractMesh:
    """The mesh of so many devices that need not be there, to compile for."""
    return AbstractMesh((devices,), (AXIS,), axis_types=(AxisType.Auto,))


def padded_classes(classes: int, mesh: Mesh | AbstractMesh) -> int:
    """The least multiple of the mesh's size that holds `classes`: columns of the kernel."""
    return -(-classes // mesh.size) * mesh.size


def state_shardings(state: Any, mesh: Mesh | AbstractMesh) -> Any:
    """Where each array of a training state lies.

    Args:
      state: pytree with `head` and `kernel` in the paths of the head's kernel and of its moments.
      mesh: of `data_mesh`.

    Returns:
      A pytree of NamedSharding: kernels by columns, all else on every device.
    """
    # One device's results say P() whatever went in, and another spec would be another compilation.
    columns = P(None, AXIS) if mesh.size > 1 else P()

    def sharding(path, _) -> NamedSharding:
        names = {getattr(key, "key", None) for key in path}
        return NamedSharding(mesh, columns if {"head", "kernel"} <= names else P())

    return jax.tree_util.tree_map_with_path(sharding, state)


def state_shapes(init: Callable[[], Any], mesh: Mesh | AbstractMesh) -> Any:
    """What `init` makes as jax.ShapeDtypeStruct, with where each array of it lies."""
    shapes = jax.eval_shape(init)
    return jax.tree.map(_placed, shapes, state_shardings(shapes, mesh))


def batch_shapes(batch: Any, mesh: Mesh | AbstractMesh) -> Any:
    """A whole batch as jax.ShapeDtypeStruct, split over the devices by rows."""
    return jax.tree.map(lambda array: _placed(array, NamedSharding(mesh, P(AXIS))), batch)


def sharded_init(init: Callable[[], Any], mesh: Mesh) -> Any:
    """The state that `init` makes, each part of it made on the device that keeps it."""
    places = jax.tree.map(lambda shape: shape.sharding, state_shapes(init, mesh))
    return jax.jit(init, out_shardings=places)()


def process_rows(batch_size: int, mesh: Mesh) -> np.ndarray:
    """Which rows of a batch this process's devices hold: [b] int64, rising.

    Raises:
      InputError: the batch does not split evenly over the devices.
    """
    if batch_size % mesh.size:
        more = -(-batch_size // mesh.size) * mesh.size
        raise InputError(
            f"config.batch_size is {batch_size}; over {mesh.size} devices it must be a multiple of that, "
            f"e.g. {more}"
        )
    places = NamedSharding(mesh, P(AXIS)).addressable_devices_indices_map((batch_size,))
    return np.sort(np.concatenate([np.arange(batch_size)[index] for index in places.values()]))


def put_batch(rows: Any, mesh: Mesh) -> Any:
    """The batch of which every process has its `process_rows`: a pytree of arrays over all devices."""
    sharding = NamedSharding(mesh, P(AXIS))
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), rows)


def everywhere(arrays: Any, mesh: Mesh) -> Any:
    """Arrays that are split over the devices, whole, as NumPy arrays of every process."""
    whole = jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, P()))(arrays)
    return jax.device_get(local_copy(whole))


def local_copy(tree: Any) -> Any:
    """Arrays that are on every device, as this process's first one has them."""
    return jax.tree.map(lambda array: array.addressable_data(0), tree)


def _placed(array, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)
