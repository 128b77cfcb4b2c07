"""Converts state dicts of CVLface's ViTs to variables of `ViT`.

PyTorch stores linear weights as [out, in], and the kernel of the patches as [out, channel, row, column]. The
two batch norms of the last layers are folded into them. `mask_token`, with which some were trained, is not
used at inference.
"""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from fpsset.models.iresnet import IMAGE_SIZE
from fpsset.models.vit import ARCHITECTURES, BUCKETS, KEYPOINTS, ViTConfig

State = Mapping[str, np.ndarray]
_NORM_EPSILON = 2e-5  # of the two batch norms


def vit_config(state: State) -> ViTConfig:
    """The architecture implied by keys such as `blocks.0.attn.qkv.weight`.

    The number of heads is recorded with KP-RPE alone; without it, it is that of CVLface's model with these
    shapes.

    Raises:
      KeyError: a key is missing; its argument is the key.
      ValueError: an array has a shape that no known architecture has; its argument is the key.
    """
    key = "patch_embed.proj.weight"
    kernel = state[key].shape
    if len(kernel) != 4 or kernel[1:3] != (3, kernel[3]) or not 1 <= kernel[3] <= IMAGE_SIZE:
        raise ValueError(key)
    depth = 1 + max(
        (int(match[1]) for key in state if (match := re.match(r"blocks\.(\d+)\.", key))), default=-1
    )
    key = "blocks.0.mlp.fc1.weight"
    dim = len(state["feature.2.weight"])
    config = ViTConfig(depth, 1, len(state[key]), kernel[0], kernel[3], dim=dim)
    if "keypoint_linear.weight" not in state:
        for known in ARCHITECTURES.values():
            if dataclasses.replace(known, num_heads=1) == config:
                return known
        raise ValueError(key)
    key = "keypoint_linear.weight"
    heads, rest = divmod(len(state[key]), BUCKETS * max(depth, 1))
    if rest or not heads or config.width % heads or state[key].shape[1:] != (2 * KEYPOINTS,):
        raise ValueError(key)
    return dataclasses.replace(config, num_heads=heads, keypoints=True)


def vit_variables(state: State, config: ViTConfig) -> dict:
    """Variables of `ViT(config)` from a state dict in CVLface's layout.

    Args:
      state: key -> array, without the backbone's prefix.
      config: from `vit_config`.

    Returns:
      {'params': ...} in float32.

    Raises:
      KeyError: a key is missing; its argument is the key.
      ValueError: an array has the wrong shape; its argument is the key.
    """
    width, heads = config.width, config.num_heads
    kernel = _take(state, "patch_embed.proj.weight", width, 3, config.patch, config.patch)
    params: dict = {
        "patches": {
            "kernel": kernel.transpose(2, 3, 1, 0).reshape(-1, width),
            "bias": _take(state, "patch_embed.proj.bias", width),
        },
        "positions": _take(state, "pos_embed", 1, config.grid**2, width)[0],
        "norm": _norm(state, "norm", width),
    }
    for number in range(config.depth):
        there = f"blocks.{number}."
        qkv = _take(state, f"{there}attn.qkv.weight", 3 * width, width)
        params[f"block_{number:02}"] = {
            "norm1": _norm(state, f"{there}norm1", width),
            "norm2": _norm(state, f"{there}norm2", width),
            "attention": {
                "qkv": {"kernel": qkv.T.reshape(width, 3, heads, width // heads)},
                "out": _dense(state, f"{there}attn.proj", width, width),
            },
            "dense1": _dense(state, f"{there}mlp.fc1", config.hidden, width),
            "dense2": _dense(state, f"{there}mlp.fc2", width, config.hidden),
        }
    params["features"] = _with_norm(state, "feature.0", "feature.1", width, width * config.grid**2)
    params["dense"] = _with_norm(state, "feature.2", "feature.3", config.dim, width)
    if config.keypoints:
        shape = (config.depth, heads, BUCKETS)
        dense = _dense(state, "keypoint_linear", config.depth * heads * BUCKETS, 2 * KEYPOINTS)
        kernel, bias = dense["kernel"].reshape(-1, *shape), dense["bias"].reshape(shape)
        params["keypoints"] = {"kernel": kernel, "bias": bias}
    return {"params": params}


def _dense(state: State, key: str, out: int, width: int) -> dict:
    weight = _take(state, f"{key}.weight", out, width)
    return {"kernel": np.ascontiguousarray(weight.T), "bias": _take(state, f"{key}.bias", out)}


def _norm(state: State, key: str, width: int) -> dict:
    return {"scale": _take(state, f"{key}.weight", width), "bias": _take(state, f"{key}.bias", width)}


def _with_norm(state: State, key: str, norm: str, out: int, width: int) -> dict:
    """A dense layer without bias, and the batch norm that follows, as one dense layer."""
    weight = _take(state, f"{key}.weight", out, width)
    scale, shift, mean, variance = (
        _take(state, f"{norm}.{name}", out).astype(np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = scale / np.sqrt(variance + _NORM_EPSILON)
    kernel = weight.T * scale.astype(np.float32)
    return {"kernel": np.ascontiguousarray(kernel), "bias": (shift - mean * scale).astype(np.float32)}


def _take(state: State, key: str, *shape: int) -> np.ndarray:
    value = np.asarray(state[key], np.float32)
    if value.shape != shape:
        raise ValueError(key)
    return value
