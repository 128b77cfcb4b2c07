"""One large set over many devices: each holds a part of its slots.

Every device finds its best face of each pick and they agree on the best of all; each sums the attention
over its own faces, and the sums are merged. What crosses between devices is a face and an index a pick,
and one vector a query: nothing that grows with the set.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fpsset.face_set import FaceSet

AXIS = "set"


def device_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh whose one axis is the set's.

    Args:
      devices: that hold the parts; all of this process when None.
    """
    devices = jax.local_devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def split(face_set: FaceSet, mesh: Mesh) -> FaceSet:
    """Lays the slots of sets out over devices, filled up to parts of one size.

    Args:
      face_set: NumPy arrays, sets [B, N].
      mesh: of `device_mesh`.

    Returns:
      FaceSet [B, N'] of sharded arrays, N' the next multiple of the device count, padding from slot N on.
    """
    spare = -face_set.mask.shape[1] % mesh.size
    sharding = NamedSharding(mesh, P(None, AXIS))

    def lay_out(array):
        widths = ((0, 0), (0, spare)) + ((0, 0),) * (array.ndim - 2)
        return jax.device_put(np.pad(array, widths) if spare else array, sharding)

    return jax.tree.map(lay_out, face_set)


def over_devices(apply: Callable, mesh: Mesh) -> Callable:
    """(variables, FaceSet [B, N]) -> outputs of sets whose slots lie over devices.

    Args:
      apply: the same of each device's part, whose outputs all devices agree on: a model given
        `axis_name=AXIS`. Picks are numbered over all parts.
      mesh: of `device_mesh`.
    """
    return jax.shard_map(apply, mesh=mesh, in_specs=(P(), P(None, AXIS)), out_specs=P())
