"""The data axis: a one-dimensional mesh of all devices, which shards batches and the head's classes.

The set model is replicated, and each device works on its part of the batch. The head's kernel, the only array
that grows with the number of people, is sharded by columns, as are the optimizer's moments of it.
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
    """A one-dimensional mesh over `devices`; None: the devices of all processes."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def local_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over devices of this process in any order, for work without messages; None: all of them."""
    devices = jax.local_devices() if devices is None else devices
    return Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))


def abstract_mesh(devices: int) -> AbstractMesh:
    """The same mesh of `devices` devices that need not exist, to compile for."""
    return AbstractMesh((devices,), (AXIS,), axis_types=(AxisType.Auto,))


def padded_classes(classes: int, mesh: Mesh | AbstractMesh) -> int:
    """Columns of the kernel: `classes` rounded up to a multiple of the mesh's size."""
    return -(-classes // mesh.size) * mesh.size


def state_shardings(state: Any, mesh: Mesh | AbstractMesh) -> Any:
    """The sharding of each array of a training state.

    Args:
      state: pytree in which the paths of the head's kernel and its moments contain 'head' and 'kernel'.
      mesh: see `data_mesh`.

    Returns:
      A pytree of NamedSharding: kernels sharded by columns, everything else replicated.
    """
    # With one device, outputs are always P(); inputs match it to avoid recompiling.
    columns = P(None, AXIS) if mesh.size > 1 else P()

    def sharding(path, _) -> NamedSharding:
        names = {getattr(key, "key", None) for key in path}
        return NamedSharding(mesh, columns if {"head", "kernel"} <= names else P())

    return jax.tree_util.tree_map_with_path(sharding, state)


def state_shapes(init: Callable[[], Any], mesh: Mesh | AbstractMesh) -> Any:
    """The state that `init` returns as a pytree of jax.ShapeDtypeStruct with shardings."""
    shapes = jax.eval_shape(init)
    return jax.tree.map(_placed, shapes, state_shardings(shapes, mesh))


def batch_shapes(batch: Any, mesh: Mesh | AbstractMesh) -> Any:
    """A whole batch as a pytree of jax.ShapeDtypeStruct, sharded by rows."""
    return jax.tree.map(lambda array: _placed(array, NamedSharding(mesh, P(AXIS))), batch)


def sharded_init(init: Callable[[], Any], mesh: Mesh) -> Any:
    """The state that `init` returns, each shard created on its own device."""
    places = jax.tree.map(lambda shape: shape.sharding, state_shapes(init, mesh))
    return jax.jit(init, out_shardings=places)()


def process_rows(batch_size: int, mesh: Mesh) -> np.ndarray:
    """The rows of a batch that this process's devices hold, [b] int64, ascending.

    Raises:
      InputError: the batch does not split evenly over the devices.
    """
    if batch_size % mesh.size:
        more = -(-batch_size // mesh.size) * mesh.size
        raise InputError(
            f"config.batch_size is {batch_size}; over {mesh.size} devices it must be a multiple of "
            f"{mesh.size}, e.g. {more}"
        )
    places = NamedSharding(mesh, P(AXIS)).addressable_devices_indices_map((batch_size,))
    return np.sort(np.concatenate([np.arange(batch_size)[index] for index in places.values()]))


def put_batch(rows: Any, mesh: Mesh) -> Any:
    """A batch sharded over all devices, from each process's own rows (see `process_rows`)."""
    sharding = NamedSharding(mesh, P(AXIS))
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), rows)


def gather_to_host(arrays: Any, mesh: Mesh) -> Any:
    """Sharded arrays as whole NumPy arrays on every process."""
    whole = jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, P()))(arrays)
    return jax.device_get(local_copy(whole))


def local_copy(tree: Any) -> Any:
    """This process's first copy of replicated arrays."""
    return jax.tree.map(lambda array: array.addressable_data(0), tree)


def _placed(array, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)
