"""One large set sharded over devices by its slots.

For each pick, every device finds its best face and all agree on the best overall; for attention, each sums
over its own faces and the sums are merged. Communication is one face and one index per pick and one vector
per query, independent of the size of the set.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fpsset.face_set import FaceSet

AXIS = "set"


def device_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A one-dimensional mesh whose axis shards a set's slots.

    Args:
      devices: None for all devices of this process.
    """
    devices = jax.local_devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def split(face_set: FaceSet, mesh: Mesh) -> FaceSet:
    """Shards the slots of sets over devices, with padding so that they split evenly.

    Args:
      face_set: NumPy arrays, sets [B, N].
      mesh: see `device_mesh`.

    Returns:
      FaceSet [B, N'] of sharded arrays: N rounded up to a multiple of the device count, the rest padding.
    """
    spare = -face_set.mask.shape[1] % mesh.size
    sharding = NamedSharding(mesh, P(None, AXIS))

    def shard(array):
        widths = ((0, 0), (0, spare)) + ((0, 0),) * (array.ndim - 2)
        return jax.device_put(np.pad(array, widths) if spare else array, sharding)

    return jax.tree.map(shard, face_set)


def over_devices(apply: Callable, mesh: Mesh) -> Callable:
    """A function (variables, FaceSet [B, N]) -> outputs for sets whose slots are sharded over devices.

    Args:
      apply: the same function for one device's part, with outputs equal on all devices: a model's `apply`
        with `axis_name=AXIS`. Picks index the whole set.
      mesh: see `device_mesh`.
    """
    return jax.shard_map(apply, mesh=mesh, in_specs=(P(), P(None, AXIS)), out_specs=P())
