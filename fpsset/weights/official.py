"""Reads published checkpoints of FaceCoresetNet, AdaFace, CVLface and InsightFace as Flax variables."""

import contextlib
import logging
import math
import os
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from fpsset.errors import InputError
from fpsset.models.selector import MAX_CORESET_SIZE
from fpsset.models.vit import ViTConfig
from fpsset.runtime.digests import file_sha256, tree_digest
from fpsset.weights.cards import (
    AggregatorCard,
    BackboneCard,
    Weights,
    WeightsCard,
    backbone_card,
)
from fpsset.weights.lookalikes import refuse_other_attention, refuse_other_backbones
from fpsset.weights.state_file import StateFile, Under, open_state
from fpsset.weights.torch_aggregator import aggregator_params, head_variables
from fpsset.weights.torch_backbone import adaface_config, backbone_variables, insightface_config
from fpsset.weights.torch_vit import vit_config, vit_variables

_log = logging.getLogger(__name__)

_NUM_HEADS = 8  # not recorded in checkpoints; the published model has 8
# Hyperparameters to keep; the others describe the training run or its machine.
_KEPT = frozenset(("arch", "head", "coreset_size", "m", "h", "s", "t_alpha", "max_template_size"))
_LONGEST_VALUE = 200  # characters of a hyperparameter
# Parts of a state dict that inference does not use: pattern of the keys -> description for the card.
_UNUSED = {
    r".*\.num_batches_tracked": "num_batches_tracked of batch norms",
    r"template_model\..*": "template_model.*, which repeats model.*",
    r"aggregate_model\.(tau|feature_norm_normalizer|ur_center|dist_from_.*|quality_measure\..*)": (
        "buffers of aggregate_model that no output depends on"
    ),
    r"aggregate_model\.decoder_layer1\.(self_attn2|multihead_attn[23]|norm[34])\..*": (
        "layers of aggregate_model.decoder_layer1 that are never called"
    ),
    r"head\.t": "head.t",
    r"(model\.)?(net\.)?mask_token": "mask_token, of training",
}


class _Family(NamedTuple):
    name: str
    mark: str  # a key that identifies the family
    prefix: str  # of the backbone's keys
    color_order: str | None
    licence: str
    layout: str = "adaface"  # of `IResNetConfig`, or 'vit'


_WEIGHTS = (
    "the training data are usually licensed for non-commercial research only: ask the authors of the weights"
)
# In order; the first whose mark is found applies.
_FAMILIES = (
    _Family("FaceCoresetNet", "aggregate_model.gamma", "model.", "bgr", f"code: none stated; {_WEIGHTS}"),
    _Family("AdaFace", "model.input_layer.0.weight", "model.", "bgr", f"code: MIT; {_WEIGHTS}"),
    _Family("CVLface", "net.input_layer.0.weight", "net.", "rgb", f"code: MIT; {_WEIGHTS}"),
    _Family("CVLface", "model.net.input_layer.0.weight", "model.net.", "rgb", f"code: MIT; {_WEIGHTS}"),
    _Family("CVLface", "net.layer1.0.conv1.weight", "net.", "rgb", f"code: MIT; {_WEIGHTS}", "insightface"),
    _Family("CVLface", "net.patch_embed.proj.weight", "net.", "rgb", f"code: MIT; {_WEIGHTS}", "vit"),
    _Family(
        "CVLface", "model.net.patch_embed.proj.weight", "model.net.", "rgb", f"code: MIT; {_WEIGHTS}", "vit"
    ),
    _Family("CVLface", "patch_embed.proj.weight", "", None, f"code: MIT; {_WEIGHTS}", "vit"),
    _Family("InsightFace", "layer1.0.conv1.weight", "", "rgb", f"code: MIT; {_WEIGHTS}", "insightface"),
    _Family("IResNet", "input_layer.0.weight", "", None, "not known"),
)


def load_official(path: str | os.PathLike, color_order: str | None = None) -> Weights:
    """Reads a published checkpoint without running code from it and without PyTorch.

    The format is detected from parameter names: FaceCoresetNet and AdaFace (Lightning), CVLface's IResNets
    and ViTs (`net.*`), InsightFace's IResNets of arcface_torch, and AdaFace's network alone.

    Args:
      path: `.ckpt`, `.pth` or `.pt` in the zip format of `torch.save`, or `.safetensors`.
      color_order: 'bgr' or 'rgb', for a file whose parameter names do not determine it.

    Returns:
      Weights: float32 Flax variables by part, those present of 'aggregator', 'head' and 'backbone'. Its
      `.card` holds architecture, colour order, hyperparameters and what was ignored.

    Raises:
      InputError: the file cannot be read, is of no known family or of one that only resembles it (a Swin, the
        author's later attention), has missing or unexpected keys, or holds an array of the wrong shape.

    Example:
      >>> import fpsset
      >>> weights = fpsset.load_official("FaceCoresetNet.ckpt")
      >>> sorted(weights), weights.card.family
      (['aggregator', 'backbone', 'head'], 'FaceCoresetNet')
    """
    path = pathlib.Path(path)
    if color_order not in (None, "bgr", "rgb"):
        raise InputError(f"the colour order is {color_order!r}; it must be 'bgr' or 'rgb'")
    with open_state(path) as state:
        refuse_other_backbones(state, path)
        family = _recognise(state, path)
        variables = {}
        with _key_errors(path):
            if "aggregate_model.gamma" in state:
                refuse_other_attention(state, path)
                variables["aggregator"] = {"params": aggregator_params(state, _NUM_HEADS)}
            if "head.kernel" in state:
                variables["head"] = head_variables(state)
        backbone = None
        if not family.prefix or any(key.startswith(family.prefix) for key in state):
            order = _color_order(family, color_order, path)
            variables["backbone"], backbone = _read_backbone(state, family, order, path)
        ignored = _ignored(state, family, path)
        hyperparameters = {key: state.hyperparameters[key] for key in sorted(_kept(state))}
    _log.info("%s: ignored %s", path, "; ".join(ignored) or "nothing")
    aggregator = None
    if "aggregator" in variables:
        params = variables["aggregator"]["params"]
        size = _coreset_size(hyperparameters, path)
        dim = len(params["norm_encoding_scale"])
        aggregator = AggregatorCard(size, _NUM_HEADS, dim, 1.0, backbone.digest if backbone else "")
    return Weights(
        variables,
        WeightsCard(
            family=family.name,
            source=path.name,
            sha256=file_sha256(path),
            licence=family.licence,
            hyperparameters=hyperparameters,
            ignored=ignored,
            backbone=backbone,
            aggregator=aggregator,
        ),
    )


def _recognise(state: StateFile, path: pathlib.Path) -> _Family:
    for family in _FAMILIES:
        if family.mark in state:
            return family
    first = ", ".join(list(state)[:3]) or "none"
    raise InputError(
        f"{path}: is not of a known family (keys: {first}, ...); "
        "give a checkpoint of FaceCoresetNet, AdaFace, CVLface or InsightFace's IResNets, or a ViT of CVLface"
    )


def _color_order(family: _Family, stated: str | None, path: pathlib.Path) -> str:
    if family.color_order and stated not in (None, family.color_order):
        raise InputError(
            f"{path}: is of {family.name}, whose images are {family.color_order}, not {stated}; "
            "omit the colour order"
        )
    if not (family.color_order or stated):
        raise InputError(f"{path}: its keys do not determine the colour order; state it, 'bgr' or 'rgb'")
    return family.color_order or stated


def _read_backbone(
    state: StateFile, family: _Family, order: str, path: pathlib.Path
) -> tuple[dict, BackboneCard]:
    with _key_errors(path, family.prefix):
        inner = Under(state, family.prefix)
        if family.layout == "vit":
            config = _known_vit(inner, path)
            variables = vit_variables(inner, config)
        else:
            config = (insightface_config if family.layout == "insightface" else adaface_config)(inner)
            variables = backbone_variables(inner, config)
    # (x / 255 - 0.5) / 0.5 in every family
    return variables, backbone_card(config.name, tree_digest(variables), order, mean=127.5, std=127.5)


def _known_vit(inner: Under, path: pathlib.Path) -> ViTConfig:
    try:
        return vit_config(inner)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: its ViT has none of CVLface's shapes ('{error.args[0]}'), so that its number of heads "
            "is not known; give CVLface's ViT-S or ViT-B, or export this one to .onnx and extract with that"
        ) from error


@contextlib.contextmanager
def _key_errors(path: pathlib.Path, prefix: str = "") -> Iterator[None]:
    """Turns the KeyError of a missing key and the ValueError of a wrong shape into one-line InputErrors."""
    try:
        yield
    except InputError:
        raise
    except KeyError as error:
        raise InputError(
            f"{path}: lacks the key '{prefix}{error.args[0]}'; download it again, or save the whole model"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path}: '{prefix}{error.args[0]}' does not fit the shapes of the other keys; download it again"
        ) from error


def _kept(state: StateFile) -> set[str]:
    """Names of the hyperparameters to keep: those of interest that have plain values."""

    def plain(value) -> bool:
        match value:
            case int():
                return type(value) is int and value.bit_length() < 64
            case float():
                return math.isfinite(value)
            case str():
                return len(value) <= _LONGEST_VALUE
        return False

    return {key for key, value in state.hyperparameters.items() if key in _KEPT and plain(value)}


def _coreset_size(hyperparameters: dict, path: pathlib.Path) -> int:
    """K; 3 if the file does not record it."""
    size = str(hyperparameters.get("coreset_size", 3))
    if not (size.isascii() and size.isdecimal() and len(size) < 20 and 1 <= int(size) <= MAX_CORESET_SIZE):
        raise InputError(
            f"{path}: its coreset_size is {size[:20]}; it must be a whole number in 1 ... {MAX_CORESET_SIZE}"
        )
    return int(size)


def _ignored(state: StateFile, family: _Family, path: pathlib.Path) -> tuple[str, ...]:
    """Describes the unused parts of the file; raises InputError for keys that its family should not have."""
    unused = [key for key in state if key not in state.used]
    known = {pattern: [key for key in unused if re.fullmatch(pattern, key)] for pattern in _UNUSED}
    words = [f"{name} ({len(known[pattern])})" for pattern, name in _UNUSED.items() if known[pattern]]
    left = [key for key in unused if not any(key in keys for keys in known.values())]
    for key in left:
        if key.startswith((family.prefix, "aggregate_model.", "head.")):
            raise InputError(f"{path}: has an unexpected key, '{key}'; it may be of another architecture")
    words += sorted({f"{key.partition('.')[0]}.*" for key in left})
    dropped = sorted(map(str, set(state.hyperparameters) - _kept(state)))
    if dropped:
        words.append(f"hyper_parameters: {', '.join(dropped)}")
    return (*words, *state.others)
