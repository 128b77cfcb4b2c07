"""Which backbone variables belong to, and its network for inference."""

import jax.numpy as jnp
from flax import linen as nn

from fpsset.models.iresnet import IResNet, IResNetConfig, config_of, fold
from fpsset.models.vit import ViT, ViTConfig, vit_config_of

BackboneConfig = IResNetConfig | ViTConfig


def backbone_config_of(variables: dict) -> BackboneConfig:
    """Infers the architecture from a backbone's variables; raises KeyError if they are not of a known one."""
    return (vit_config_of if "patches" in variables["params"] else config_of)(variables)


def inference_network(config: BackboneConfig, dtype: jnp.dtype) -> nn.Module:
    """The network for variables that `folded` returns."""
    if isinstance(config, ViTConfig):
        return ViT(config, dtype)
    return IResNet(config, folded=True, dtype=dtype)


def folded(variables: dict) -> dict:
    """The variables for inference: batch norms of an `IResNet` in the trained form are folded in."""
    return fold(variables) if "batch_stats" in variables else variables


def takes_keypoints(variables: dict) -> bool:
    """Whether the embeddings of a backbone depend on where the face's landmarks lie."""
    return "keypoints" in variables["params"]
