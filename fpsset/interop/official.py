"""State dicts of the official PyTorch code as variables of these modules.

PyTorch keeps linear weights as [out, in] and a joint projection as [3D, D]; here kernels are
[in, heads, channels]. Key biases are dropped: they cancel in the softmax.
"""

from collections.abc import Mapping

import numpy as np

_LAYER = "aggregate_model.decoder_layer1."
_ATTENTIONS = {"self_attention": "self_attn1", "set_attention": "multihead_attn1"}
_LAYER_NORMS = {"query_norm": "norm1", "output_norm": "norm2"}


def aggregator_params(state: Mapping[str, np.ndarray], num_heads: int = 8) -> dict:
    """Parameters of `FaceCoresetNet` from the `aggregate_model.*` keys of an official state dict.

    Args:
      state: key -> array, as the checkpoint holds them.
      num_heads: heads of both attentions.

    Returns:
      The tree under 'params'.

    Raises:
      KeyError: a key is missing.
    """
    params = {
        "gamma": np.asarray(state["aggregate_model.gamma"], np.float32),
        "norm_encoding_scale": state["aggregate_model.pos_trans_norm.weight"],
        "norm_encoding_bias": state["aggregate_model.pos_trans_norm.bias"],
    }
    for name, key in _LAYER_NORMS.items():
        params[name] = {"scale": state[f"{_LAYER}{key}.weight"], "bias": state[f"{_LAYER}{key}.bias"]}
    for name, key in _ATTENTIONS.items():
        params[name] = _attention(state, f"{_LAYER}{key}.", num_heads)
    return params


def adaface_variables(state: Mapping[str, np.ndarray]) -> dict:
    """Variables of `AdaFaceHead` from the `head.*` keys of an official state dict.

    Raises:
      KeyError: a key is missing.
    """
    return {
        "params": {"kernel": state["head.kernel"]},
        "batch_stats": {
            "mean": np.float32(state["head.batch_mean"].item()),
            "std": np.float32(state["head.batch_std"].item()),
        },
    }


def _attention(state, prefix: str, heads: int) -> dict:
    weight, bias = state[prefix + "in_proj_weight"], state[prefix + "in_proj_bias"]
    dim = weight.shape[1]
    query, key, value = (w.T.reshape(dim, heads, dim // heads) for w in np.split(weight, 3))
    query_bias, _, value_bias = (b.reshape(heads, dim // heads) for b in np.split(bias, 3))
    return {
        "query": query,
        "query_bias": query_bias,
        "key": key,
        "value": value,
        "value_bias": value_bias,
        "out": state[prefix + "out_proj.weight"].T.reshape(heads, dim // heads, dim),
        "out_bias": state[prefix + "out_proj.bias"],
    }
