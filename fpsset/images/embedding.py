"""Embeds aligned faces with the variables of an IResNet backbone."""

import functools

import jax
import jax.numpy as jnp

from fpsset.errors import InputError
from fpsset.models.iresnet import IMAGE_SIZE, IResNet, IResNetConfig, config_of, fold


def embed(variables: dict, images: jax.Array, dtype: jnp.dtype = jnp.float32) -> tuple[jax.Array, jax.Array]:
    """Embeds aligned faces; compiled once for each architecture and batch size.

    Args:
      variables: variables of an `IResNet`, as trained or folded by `fold`; they are folded if necessary.
      images: [B, 112, 112, 3] in [-1, 1], in the colour order of the weights.
      dtype: dtype of the convolutions: float32, or bfloat16 for speed on hardware that supports it.

    Returns:
      (embeddings [B, D] float32 unit rows, norms [B] float32).

    Raises:
      InputError: the variables are not a backbone's, or the images have another shape.

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
    return _runner(config, "batch_stats" in variables, jnp.dtype(dtype))(variables, images)


@functools.cache
def _runner(config: IResNetConfig, trained: bool, dtype: jnp.dtype):
    net = IResNet(config, folded=True, dtype=dtype)
    return jax.jit(lambda variables, images: net.apply(fold(variables) if trained else variables, images))
