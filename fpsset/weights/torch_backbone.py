"""Converts state dicts of PyTorch backbones to variables of `IResNet`.

PyTorch stores convolution kernels as [out, in, height, width] and flattens activations channels-first;
Flax kernels are [height, width, in, out] and activations are flattened channels-last.
"""

import functools
import re
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from fpsset.models.iresnet import IMAGE_SIZE, IResNet, IResNetConfig

State = Mapping[str, np.ndarray]
# (kind of a module, its path in Flax, its key in PyTorch)
_Module = tuple[str, str, str]


def adaface_config(state: State) -> IResNetConfig:
    """The architecture implied by keys such as `body.0.res_layer.1.weight`.

    Raises:
      KeyError: a key is missing; its argument is the key.
      ValueError: an array is no kernel; its argument is the key.
    """
    bottleneck = "body.0.res_layer.7.weight" in state
    last = "body.{}.res_layer." + ("7.weight" if bottleneck else "4.weight")
    widths = [_width(state, last.format(i)) for i in range(_count(state, r"body\.(\d+)\."))]
    return IResNetConfig(
        tuple(widths.count(width) for width in dict.fromkeys(widths)),
        "adaface",
        bottleneck,
        "body.0.res_layer.se_block.fc1.weight" in state,
        _width(state, "input_layer.0.weight"),
    )


def insightface_config(state: State) -> IResNetConfig:
    """The architecture implied by keys such as `layer1.0.conv1.weight`.

    Raises:
      KeyError: a key is missing; its argument is the key.
      ValueError: an array is no kernel; its argument is the key.
    """
    stages = tuple(_count(state, rf"layer{stage}\.(\d+)\.") for stage in range(1, 5))
    return IResNetConfig(stages, "insightface", width=_width(state, "conv1.weight"))


def backbone_variables(state: State, config: IResNetConfig) -> dict:
    """Variables of `IResNet(config)` from a state dict in the layout that `config` names.

    Args:
      state: key -> array, without the backbone's prefix.
      config: from `adaface_config` or `insightface_config`.

    Returns:
      {'params': ..., 'batch_stats': ...} in float32.

    Raises:
      KeyError: a key is missing; its argument is the key.
      ValueError: an array has the wrong shape; its argument is the key.
    """
    expected = _shapes(config)
    modules = _adaface_modules if config.layout == "adaface" else _insightface_modules
    variables: dict = {"params": {}, "batch_stats": {}}
    for kind, path, name in modules(config):
        for collection, leaf, suffix in _LEAVES[kind]:
            *folders, leaf = f"{collection}/{path}/{leaf}".split("/")
            here, there = variables, expected
            for folder in folders:
                here, there = here.setdefault(folder, {}), there[folder]
            key = f"{name}.{suffix}"
            value = np.asarray(state[key], np.float32)
            value = _kernel(kind, value) if leaf == "kernel" else value
            if value is None or value.shape != there[leaf].shape:
                raise ValueError(key)
            here[leaf] = value
    return variables


_LEAVES = {
    "conv": (("params", "kernel", "weight"),),
    "pointwise": (("params", "kernel", "weight"),),
    "slope": (("params", "slope", "weight"),),
    "dense": (("params", "kernel", "weight"), ("params", "bias", "bias")),
    "norm": (
        ("params", "scale", "weight"),
        ("params", "bias", "bias"),
        ("batch_stats", "mean", "running_mean"),
        ("batch_stats", "var", "running_var"),
    ),
}
_LEAVES["plain norm"] = _LEAVES["norm"][2:]  # without scale and bias


def _kernel(kind: str, weight: np.ndarray) -> np.ndarray | None:
    """A PyTorch weight as a Flax kernel, or None if its shape is impossible."""
    if kind == "dense":
        if weight.ndim != 2 or weight.shape[1] % 49:
            return None
        weight = weight.reshape(len(weight), -1, 7, 7)
    if weight.ndim != 4:
        return None
    kernel = weight.transpose(2, 3, 1, 0)
    return kernel if kind == "conv" else kernel.reshape(-1, kernel.shape[-1])


def _adaface_modules(config: IResNetConfig) -> Iterator[_Module]:
    yield "conv", "stem", "input_layer.0"
    yield "norm", "stem/norm", "input_layer.1"
    yield "slope", "stem_prelu", "input_layer.2"
    for i, block in enumerate(config.blocks()):
        here, there = f"block_{i:02}", f"body.{i}.res_layer."
        yield "norm", f"{here}/norm", f"{there}0"
        convolutions = 3 if config.bottleneck else 2
        for j in range(convolutions):
            yield "conv", f"{here}/conv{j + 1}", f"{there}{3 * j + 1}"
            yield "norm", f"{here}/conv{j + 1}/norm", f"{there}{3 * j + 2}"
            if j + 1 < convolutions:
                yield "slope", f"{here}/prelu{j + 1}", f"{there}{3 * j + 3}"
        if config.squeeze_excite:
            yield "pointwise", f"{here}/squeeze_excite/reduce", f"{there}se_block.fc1"
            yield "pointwise", f"{here}/squeeze_excite/expand", f"{there}se_block.fc2"
        if block.projected:
            yield "conv", f"{here}/shortcut", f"body.{i}.shortcut_layer.0"
            yield "norm", f"{here}/shortcut/norm", f"body.{i}.shortcut_layer.1"
    yield "norm", "norm", "output_layer.0"
    yield "dense", "dense", "output_layer.3"
    yield "plain norm", "features", "output_layer.4"


def _insightface_modules(config: IResNetConfig) -> Iterator[_Module]:
    yield "conv", "stem", "conv1"
    yield "norm", "stem/norm", "bn1"
    yield "slope", "stem_prelu", "prelu"
    places = [f"layer{s + 1}.{j}." for s, count in enumerate(config.stage_sizes) for j in range(count)]
    for i, (there, block) in enumerate(zip(places, config.blocks(), strict=True)):
        here = f"block_{i:02}"
        yield "norm", f"{here}/norm", f"{there}bn1"
        yield "conv", f"{here}/conv1", f"{there}conv1"
        yield "norm", f"{here}/conv1/norm", f"{there}bn2"
        yield "slope", f"{here}/prelu1", f"{there}prelu"
        yield "conv", f"{here}/conv2", f"{there}conv2"
        yield "norm", f"{here}/conv2/norm", f"{there}bn3"
        if block.projected:
            yield "conv", f"{here}/shortcut", f"{there}downsample.0"
            yield "norm", f"{here}/shortcut/norm", f"{there}downsample.1"
    yield "norm", "norm", "bn2"
    yield "dense", "dense", "fc"
    yield "norm", "features", "features"


def _width(state: State, key: str) -> int:
    """The output channels of a convolution."""
    shape = state[key].shape
    if len(shape) != 4 or not shape[0]:
        raise ValueError(key)
    return shape[0]


def _count(state: State, pattern: str) -> int:
    """One more than the largest number that `pattern` captures in the keys; 0 if none matches."""
    return max((int(match[1]) for key in state if (match := re.match(pattern, key))), default=-1) + 1


@functools.cache
def _shapes(config: IResNetConfig) -> dict:
    images = jnp.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3))
    return jax.eval_shape(IResNet(config).init, jax.random.key(0), images)
