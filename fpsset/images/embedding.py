"""Embeds aligned faces with the variables of a backbone."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P

from fpsset.errors import InputError
from fpsset.images.aligned_faces import TEMPLATE
from fpsset.models.backbones import BackboneConfig, backbone_config_of, folded, inference_network
from fpsset.models.iresnet import IMAGE_SIZE
from fpsset.models.vit import KEYPOINTS, ViTConfig
from fpsset.parallel.mesh import AXIS


def embed(
    variables: dict,
    images: jax.Array,
    dtype: jnp.dtype = jnp.float32,
    mesh: Mesh | AbstractMesh | None = None,
    keypoints: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Embeds aligned faces; compiled once for each architecture and batch size.

    Args:
      variables: variables of an `IResNet`, as trained or folded by `fold`, which they are if necessary; or
        of a `ViT`.
      images: [B, 112, 112, 3] in [-1, 1], in the colour order of the weights.
      dtype: dtype of the convolutions: float32, or bfloat16 for speed on hardware that supports it.
      mesh: devices that share the images by rows, without a message, see `fpsset.parallel.mesh`; their number
        divides B. None: wherever the arrays are.
      keypoints: [B, 5, 2], for a ViT with KP-RPE: (x, y) of eyes, nose and corners of the mouth as shares of
        the image's width and height. None: those of the template to which faces are aligned.

    Returns:
      (embeddings [B, D] float32 unit rows, norms [B] float32).

    Raises:
      InputError: the variables are not a backbone's, images or keypoints have another shape, the images do
        not split evenly over the devices, or the backbone takes no keypoints.

    Example:
      >>> import numpy as np, fpsset
      >>> weights = fpsset.load_official("FaceCoresetNet.ckpt")
      >>> embeddings, norms = fpsset.embed(weights["backbone"], np.zeros((1, 112, 112, 3), "f"))
      >>> embeddings.shape, norms.shape
      ((1, 512), (1,))
    """
    try:
        config = backbone_config_of(variables)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise InputError("these are not variables of a backbone; pass variables['backbone']") from error
    shape = jnp.shape(images)
    if len(shape) != 4 or shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise InputError(f"images must be [B, {IMAGE_SIZE}, {IMAGE_SIZE}, 3], not {list(shape)}")
    if mesh is not None and shape[0] % mesh.size:
        raise InputError(f"{shape[0]} images do not split evenly over {mesh.size} devices; pass a multiple")
    points = _keypoints(config, keypoints, shape[0])
    shared_by = mesh if mesh is not None and mesh.size > 1 else None
    # Folded by programs of their own, which all batch sizes and dtypes share.
    return _runner(config, jnp.dtype(dtype), shared_by)(folded(variables), images, *points)


def _keypoints(config: BackboneConfig, keypoints: jax.Array | None, count: int) -> tuple[jax.Array, ...]:
    """The arguments of a network beside its images."""
    if not (isinstance(config, ViTConfig) and config.keypoints):
        if keypoints is not None:
            raise InputError(f"{config.name} takes no keypoints; leave them out")
        return ()
    if keypoints is None:
        return (jnp.broadcast_to(TEMPLATE[None], (count, *TEMPLATE.shape)),)
    if jnp.shape(keypoints) != (count, KEYPOINTS, 2):
        raise InputError(f"keypoints must be [{count}, {KEYPOINTS}, 2], not {list(jnp.shape(keypoints))}")
    return (keypoints,)


@functools.cache
def _runner(config: BackboneConfig, dtype: jnp.dtype, mesh: Mesh | AbstractMesh | None):
    run = inference_network(config, dtype).apply
    if mesh is not None:
        arguments = 2 if isinstance(config, ViTConfig) and config.keypoints else 1
        specs = (P(), *[P(AXIS)] * arguments)
        run = jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=P(AXIS))
    return jax.jit(run)
