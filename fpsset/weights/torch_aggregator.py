"""Converts official PyTorch state dicts of the aggregator and its head to Flax variables.

PyTorch stores linear weights as [out, in] and the joint projection as [3D, D]; Flax kernels are
[in, heads, channels]. Key biases are dropped because they cancel in the softmax.
"""

from collections.abc import Mapping

import numpy as np

_LAYER = "aggregate_model.decoder_layer1."
_ENCODING = "aggregate_model.pos_trans_norm."
_ATTENTIONS = {"self_attention": "self_attn1", "set_attention": "multihead_attn1"}
_LAYER_NORMS = {"query_norm": "norm1", "output_norm": "norm2"}


def aggregator_params(state: Mapping[str, np.ndarray], num_heads: int = 8) -> dict:
    """Parameters of `FaceCoresetNet` from the `aggregate_model.*` keys of an official state dict.

    Args:
      state: key -> array, with the checkpoint's keys.
      num_heads: heads of both attentions.

    Returns:
      The tree under 'params', float32.

    Raises:
      KeyError: a key is missing; its argument is the key.
      ValueError: the shape of an array does not fit the others; its argument is the key.
    """
    dim = np.size(state[_ENCODING + "weight"])
    if dim % num_heads:
        raise ValueError(_ENCODING + "weight")
    params = {
        "gamma": _take(state, "aggregate_model.gamma"),
        "norm_encoding_scale": _take(state, _ENCODING + "weight", dim),
        "norm_encoding_bias": _take(state, _ENCODING + "bias", dim),
    }
    for name, key in _LAYER_NORMS.items():
        params[name] = {
            "scale": _take(state, f"{_LAYER}{key}.weight", dim),
            "bias": _take(state, f"{_LAYER}{key}.bias", dim),
        }
    for name, key in _ATTENTIONS.items():
        params[name] = _attention(state, f"{_LAYER}{key}.", dim, num_heads)
    return params


def head_variables(state: Mapping[str, np.ndarray]) -> dict:
    """Variables of `AdaFaceHead` from the `head.*` keys of an official state dict.

    Variables of `ArcFaceHead` or `CosFaceHead` if there are no running statistics.

    Raises:
      KeyError: a key is missing; its argument is the key.
      ValueError: an array has the wrong shape; its argument is the key.
    """
    kernel = np.asarray(state["head.kernel"], np.float32)
    if kernel.ndim != 2:
        raise ValueError("head.kernel")
    variables = {"params": {"kernel": kernel}}
    if "head.batch_mean" in state:
        statistics = {name: _take(state, f"head.batch_{name}", 1)[0] for name in ("mean", "std")}
        variables["batch_stats"] = statistics
    return variables


def _attention(state, prefix: str, dim: int, heads: int) -> dict:
    weight = _take(state, prefix + "in_proj_weight", 3 * dim, dim)
    bias = _take(state, prefix + "in_proj_bias", 3 * dim)
    query, key, value = (w.T.reshape(dim, heads, dim // heads) for w in np.split(weight, 3))
    query_bias, _, value_bias = (b.reshape(heads, dim // heads) for b in np.split(bias, 3))
    return {
        "query": query,
        "query_bias": query_bias,
        "key": key,
        "value": value,
        "value_bias": value_bias,
        "out": _take(state, prefix + "out_proj.weight", dim, dim).T.reshape(heads, dim // heads, dim),
        "out_bias": _take(state, prefix + "out_proj.bias", dim),
    }


def _take(state, key: str, *shape: int) -> np.ndarray:
    value = np.asarray(state[key], np.float32)
    if value.shape != shape:
        raise ValueError(key)
    return value
