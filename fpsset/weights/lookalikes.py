"""Recognises checkpoints that resemble supported ones but compute something else, so that they are refused.

Facts about their layouts are from the public code of CVLface (mk-minchul/CVLface), InsightFace's
arcface_torch and the later code of FaceCoresetNet's author (ligaripash/FaceCoresetNetArc2Face).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fpsset.errors import InputError

_PREFIXES = ("net.", "model.net.", "model.", "")  # of a backbone's keys
_LAYER = "aggregate_model.decoder_layer1."


class _Backbone(NamedTuple):
    name: str
    marks: tuple[str, ...]  # what some key starts with after the prefix, each of them
    prefixes: tuple[str, ...] = _PREFIXES  # of the backbone's keys


# In order; the first whose marks are all found applies.
_BACKBONES = (
    _Backbone("a part-fViT", ("mobilenet.", "vit.pos_embed")),
    _Backbone("a Swin transformer with KP-RPE", ("keypoint_linear.", "features.1.0.attn.")),
    _Backbone("a Swin transformer", ("features.1.0.attn.",)),
    _Backbone("a ViT with iRPE", ("blocks.0.attn.rpe_", "patch_embed.proj.")),
    # Those of CVLface are read; these are beside an aggregator or a head, in nobody's published layout.
    _Backbone("a ViT", ("patch_embed.proj.", "blocks.0.attn.qkv."), ("model.",)),
)


def refuse_other_backbones(state: Mapping[str, np.ndarray], path) -> None:
    """Raises InputError that names the backbone if the keys are those of a known one that cannot be read.

    Args:
      state: key -> array; no array is read.
      path: of the file, for the message.
    """
    keys = list(state)
    for name, marks, prefixes in _BACKBONES:
        for prefix in prefixes:
            inner = [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]
            if all(any(key.startswith(mark) for key in inner) for mark in marks):
                raise InputError(
                    f"{path}: its backbone is {name}, which is not supported here; give an IResNet or a ViT "
                    "of CVLface, or export this one to .onnx and extract with that"
                )


def refuse_other_attention(state: Mapping[str, np.ndarray], path) -> None:
    """Raises InputError if the weights of the published set attention were never trained.

    The later code of the same author projects the set with `self_attn1`, then lets the picks attend to it by
    a plain dot product. Parameters have the same names and shapes, but `multihead_attn1` and `norm2`, which
    FaceCoresetNet ends with, are never called and keep the constants that PyTorch starts from. A checkpoint
    in which `norm1`, which both call, has them too was not trained at all, and says nothing.

    Args:
      state: key -> array.
      path: of the file, for the message.
    """
    starts = {
        "norm2.weight": 1.0,
        "norm2.bias": 0.0,
        "multihead_attn1.in_proj_bias": 0.0,
        "multihead_attn1.out_proj.bias": 0.0,
    }
    if all(_constant(state, name, value) for name, value in starts.items()) and not (
        _constant(state, "norm1.weight", 1.0) and _constant(state, "norm1.bias", 0.0)
    ):
        raise InputError(
            f"{path}: '{_LAYER}multihead_attn1' and '{_LAYER}norm2' were never trained: it comes from the "
            "author's later code (FaceCoresetNetArc2Face), whose attention differs under the same names; "
            "give a checkpoint of FaceCoresetNet itself"
        )


def _constant(state: Mapping[str, np.ndarray], name: str, value: float) -> bool:
    key = _LAYER + name
    return key in state and bool(np.all(np.asarray(state[key], np.float32) == np.float32(value)))
