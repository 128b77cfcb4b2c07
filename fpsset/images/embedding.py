"""Embeds aligned faces with the variables of an IResNet backbone."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P

from fpsset.errors import InputError
from fpsset.models.iresnet import IMAGE_SIZE, IResNet, IResNetConfig, config_of, fold
from fpsset.parallel.mesh import AXIS


def embed(
    variables: dict,
    images: jax.Array,
    dtype: jnp.dtype = jnp.float32,
    mesh: Mesh | AbstractMesh | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Embeds aligned faces; compiled once for each architecture and batch size.

    Args:
      variables: variables of an `IResNet`, as trained or folded by `fold`; they are folded if necessary.
      images: [B, 112, 112, 3] in [-1, 1], in the colour order of the weights.
      dtype: dtype of the convolutions: float32, or bfloat16 for speed on hardware that supports it.
      mesh: devices that share the images by rows, without a message, see `fpsset.parallel.mesh`; their number
        divides B. None: wherever the arrays are.

    Returns:
      (embeddings [B, D] float32 unit rows, norms [B] float32).

    Raises:
      InputError: the variables are not a backbone's, the images have another shape, or do not split evenly
        over the devices.

    Example:
      >>> import numpy as np, fpsset
      >>> weights = fpsset.load_official("FaceCoresetNet.ckpt")
      >>> embeddings, norms = fpsset.embed(weights["backbone"], np.zeros((1, 112, 112, 3), "f"))
      >>> embeddings.shape, norms.shape
      ((1, 512), (1,))
    """
    try:
        config = config_of(variables)
    except (KeyError, TypeError, IndexError) as error:
        raise InputError("these are not variables of a backbone; pass variables['backbone']") from error
    shape = jnp.shape(images)
    if len(shape) != 4 or shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise InputError(f"images must be [B, {IMAGE_SIZE}, {IMAGE_SIZE}, 3], not {list(shape)}")
    if mesh is not None and shape[0] % mesh.size:
        raise InputError(f"{shape[0]} images do not split evenly over {mesh.size} devices; pass a multiple")
    shared_by = mesh if mesh is not None and mesh.size > 1 else None
    return _runner(config, "batch_stats" in variables, jnp.dtype(dtype), shared_by)(variables, images)


@functools.cache
def _runner(config: IResNetConfig, trained: bool, dtype: jnp.dtype, mesh: Mesh | AbstractMesh | None):
    net = IResNet(config, folded=True, dtype=dtype)

    def run(variables: dict, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        return net.apply(fold(variables) if trained else variables, images)

    if mesh is not None:
        run = jax.shard_map(run, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS))
    return jax.jit(run)
