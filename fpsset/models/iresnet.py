"""IResNet: face backbones that turn aligned images into embeddings and norms (ArcFace, arXiv 1801.07698).

One module has two forms. The trained form keeps separate batch norms. The folded form merges their running
statistics into kernels and biases: the same function at inference, with a third of the passes over the
activations.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from fpsset.ops.masking import normalize
from fpsset.ops.precision import einsum, precision_of

_EPSILON = 1e-5
_GRID = 7  # height and width of the last activations: 112 / 2^4
IMAGE_SIZE = 112
LAYOUTS = ("adaface", "insightface")


class Block(NamedTuple):
    """The shape of a residual block."""

    width_in: int  # input channels
    width: int  # output channels
    stride: int
    projected: bool  # whether the shortcut is a convolution


@dataclasses.dataclass(frozen=True)
class IResNetConfig:
    """An architecture of the IResNet family.

    Attributes:
      stage_sizes: number of blocks in each of the four stages.
      layout: 'adaface' (also used by FaceCoresetNet and CVLface): a strided shortcut is a convolution only if
        the width changes, otherwise it takes every second pixel. 'insightface': it is always a convolution.
      bottleneck: use blocks of 1x1, 3x3 and 1x1 convolutions, with four times the width.
      squeeze_excite: reweight channels at the end of each block (arXiv 1709.01507).
      width: channels of the stem and the first stage; each further stage has twice as many.
    """

    stage_sizes: tuple[int, ...]
    layout: str = "adaface"
    bottleneck: bool = False
    squeeze_excite: bool = False
    width: int = 64

    def blocks(self) -> Iterator[Block]:
        """The residual blocks, in order."""
        width_in = self.width
        for stage, count in enumerate(self.stage_sizes):
            width = self.width * 2**stage * (4 if self.bottleneck else 1)
            for index in range(count):
                stride = 2 if index == 0 else 1
                projected = width_in != width or (self.layout == "insightface" and stride > 1)
                yield Block(width_in, width, stride, projected)
                width_in = width

    @property
    def name(self) -> str:
        """The name in `ARCHITECTURES`, or a description by stage sizes for other configurations."""
        for name, config in ARCHITECTURES.items():
            if config == self:
                return name
        kind = "ir_se" if self.squeeze_excite else "ir"
        width = "" if self.width == 64 else f", width {self.width}"
        return f"{kind}{list(self.stage_sizes)} ({self.layout}{width})"


def _family() -> dict[str, IResNetConfig]:
    configs = {}
    sizes = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 101: (3, 13, 30, 3)}
    deep = {152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
    for squeeze, kind in ((False, "ir"), (True, "ir_se")):
        for depth, stages in (sizes | deep).items():
            configs[f"{kind}_{depth}"] = IResNetConfig(stages, "adaface", depth in deep, squeeze)
    for depth, stages in (sizes | {200: (6, 26, 60, 6)}).items():
        configs[f"iresnet{100 if depth == 101 else depth}"] = IResNetConfig(stages, "insightface")
    return configs


class PReLU(nn.Module):
    """max(x, 0) + slope * min(x, 0), with one learned slope per channel."""

    @nn.compact
    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        """[..., C] -> [..., C]."""
        slope = self.param("slope", nn.initializers.constant(0.25), x.shape[-1:])
        return jnp.maximum(x, 0) + _channels(slope, x) * jnp.minimum(x, 0)


class ConvNorm(nn.Module):
    """A convolution without bias, followed by a batch norm; when folded, one convolution with a bias.

    Attributes:
      width: output channels.
      size: kernel size, 1 or 3; a 3x3 kernel pads the image by one pixel.
      stride: stride of the convolution.
      folded: whether the batch norms are folded in.
      after_norm: whether a batch norm before the convolution is folded in too. That norm's shift does not
        apply to the zero padding, so the bias of a 3x3 kernel depends on which border a pixel touches.
    """

    width: int
    size: int
    stride: int
    folded: bool
    after_norm: bool = False

    @nn.compact
    def __call__(self, x: jnp.ndarray, train: bool = False) -> jnp.ndarray:
        """[B, H, W, C] -> [B, H / stride, W / stride, width]."""
        shape = (self.size, self.size, x.shape[-1], self.width)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        padding = ((self.size // 2,) * 2,) * 2
        y = lax.conv_general_dilated(
            x,
            kernel.astype(x.dtype),
            (self.stride,) * 2,
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=precision_of(x.dtype),
        )
        if not self.folded:
            return batch_norm(train, name="norm")(y)
        if not (self.after_norm and self.size == 3):
            return y + _channels(self.param("bias", nn.initializers.zeros, (self.width,)), y)
        borders = self.param("bias", nn.initializers.zeros, (3, 3, self.width)).astype(y.dtype)
        rows, columns = (np.r_[0, np.ones(n - 2, int), 2] for n in y.shape[1:3])
        return y + borders[rows][:, columns][None]


class SqueezeExcite(nn.Module):
    """Reweights channels by a function of their spatial means (arXiv 1709.01507, reduction 16)."""

    @nn.compact
    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        """[B, H, W, C] -> [B, H, W, C]."""
        width = x.shape[-1]
        options = {"use_bias": False, "dtype": x.dtype, "precision": precision_of(x.dtype)}
        y = nn.relu(nn.Dense(max(1, width // 16), name="reduce", **options)(x.mean((1, 2))))
        y = nn.Dense(width, name="expand", **options)(y)
        return x * nn.sigmoid(y)[:, None, None]


class ResidualBlock(nn.Module):
    """A batch norm and convolutions with PReLU between them, added to a shortcut.

    Attributes:
      block: the block's shape.
      bottleneck: whether it has three convolutions.
      squeeze_excite: whether it reweights channels at the end.
      folded: whether the batch norms are folded in.
    """

    block: Block
    bottleneck: bool
    squeeze_excite: bool
    folded: bool

    @nn.compact
    def __call__(self, x: jnp.ndarray, train: bool = False) -> jnp.ndarray:
        """[B, H, W, width_in] -> [B, H / stride, W / stride, width]."""
        _, width, stride, projected = self.block
        if self.bottleneck:
            convolutions = ((width // 4, 1, 1), (width // 4, 3, 1), (width, 1, stride))
        else:
            convolutions = ((width, 3, 1), (width, 3, stride))
        y = x if self.folded else batch_norm(train, name="norm")(x)
        for i, convolution in enumerate(convolutions):
            if i:
                y = PReLU(name=f"prelu{i}")(y)
            y = ConvNorm(*convolution, self.folded, after_norm=i == 0, name=f"conv{i + 1}")(y, train)
        if self.squeeze_excite:
            y = SqueezeExcite(name="squeeze_excite")(y)
        if projected:
            return y + ConvNorm(width, 1, stride, self.folded, name="shortcut")(x, train)
        return y + x[:, ::stride, ::stride]


_Block = nn.jit(ResidualBlock, static_argnums=2)  # so that JAX traces equal blocks only once


class IResNet(nn.Module):
    """A backbone that embeds aligned face images.

    Attributes:
      config: the architecture.
      dim: D, the width of the embedding.
      folded: False for the trained form, with 'batch_stats'; True for parameters returned by `fold`.
      dtype: dtype of activations and convolutions; the last layer and the outputs are float32.
      dropout_rate: dropout before the last layer, in training.
    """

    config: IResNetConfig
    dim: int = 512
    folded: bool = False
    dtype: jnp.dtype = jnp.float32
    dropout_rate: float = 0.4

    @nn.compact
    def __call__(self, images: jnp.ndarray, train: bool = False) -> tuple[jnp.ndarray, jnp.ndarray]:
        """Embeds aligned faces.

        Args:
          images: [B, 112, 112, 3] float in [-1, 1], in the colour order that the weights expect.
          train: use batch statistics and dropout (rng stream 'dropout'); not available in the folded form.

        Returns:
          (embeddings [B, D] float32 unit rows, norms [B] float32 >= 0).

        Raises:
          ValueError: images have another shape, or `train` is set in the folded form.
        """
        require_aligned(images)
        if train and self.folded:
            raise ValueError("the folded form has no batch statistics to train with; use folded=False")
        x = ConvNorm(self.config.width, 3, 1, self.folded, name="stem")(images.astype(self.dtype), train)
        x = PReLU(name="stem_prelu")(x)
        kind = self.config.bottleneck, self.config.squeeze_excite, self.folded
        for i, block in enumerate(self.config.blocks()):
            x = _Block(block, *kind, name=f"block_{i:02}")(x, train)
        x = x.astype(jnp.float32)
        if not self.folded:
            x = batch_norm(train, name="norm")(x)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        x = nn.Dense(self.dim, name="dense", precision=precision_of(x.dtype))(x.reshape(x.shape[0], -1))
        if not self.folded:
            affine = self.config.layout == "insightface"
            x = batch_norm(train, name="features", use_scale=affine, use_bias=affine)(x)
        return normalize(x)


def require_aligned(images: jnp.ndarray) -> None:
    """Raises ValueError unless images are [B, 112, 112, 3]."""
    if images.ndim != 4 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise ValueError(f"images must be [B, {IMAGE_SIZE}, {IMAGE_SIZE}, 3]; they are {images.shape}")


def batch_norm(train: bool, **fields) -> nn.BatchNorm:
    """A batch norm with PyTorch's default momentum and epsilon; `fields` are passed to `nn.BatchNorm`."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=_EPSILON, **fields)


def config_of(variables: dict) -> IResNetConfig:
    """Infers the architecture from a backbone's variables, in the trained or the folded form.

    Args:
      variables: {'params': ...} of an `IResNet`.

    Raises:
      KeyError: these are not the variables of an `IResNet`.
    """
    params = variables["params"]
    blocks = [params[f"block_{i:02}"] for i in range(sum(name.startswith("block_") for name in params))]
    bottleneck = "conv3" in blocks[0]
    widths = [block["conv3" if bottleneck else "conv2"]["kernel"].shape[-1] for block in blocks]
    return IResNetConfig(
        stage_sizes=tuple(widths.count(width) for width in dict.fromkeys(widths)),
        layout="insightface" if "shortcut" in blocks[0] and not bottleneck else "adaface",
        bottleneck=bottleneck,
        squeeze_excite="squeeze_excite" in blocks[0],
        width=params["stem"]["kernel"].shape[-1],
    )


def fold(variables: dict) -> dict:
    """Folds batch norms into convolutions; the function at inference stays the same.

    Args:
      variables: {'params': ..., 'batch_stats': ...} of an `IResNet` in the trained form.

    Returns:
      {'params': ...} for an `IResNet` of the same architecture with `folded=True`.
    """
    params, stats = variables["params"], variables["batch_stats"]
    folded = {"stem": _fold_conv(params["stem"], stats["stem"]), "stem_prelu": params["stem_prelu"]}
    for name, block in params.items():
        if name.startswith("block_"):
            folded[name] = _fold_block(block, stats[name])
    norm = params["norm"], stats["norm"]
    folded["dense"] = _fold_dense(params["dense"], norm, (params.get("features", {}), stats["features"]))
    return {"params": folded}


@jax.jit  # here and below: compiled once for all blocks of a shape
def _fold_block(block: dict, stats: dict) -> dict:
    before = _scale_shift(block["norm"], stats["norm"])
    return {
        part: _fold_conv(leaf, stats[part], before if part == "conv1" else None) if part in stats else leaf
        for part, leaf in block.items()
        if part != "norm"
    }


@jax.jit
def _fold_dense(dense: dict, norm: tuple[dict, dict], features: tuple[dict, dict]) -> dict:
    """The final batch norm, dense layer and batch norm as one dense layer."""
    scale, shift = _scale_shift(*norm)
    out_scale, out_shift = _scale_shift(*features)
    kernel = dense["kernel"].reshape(_GRID**2, len(scale), -1)
    bias = dense["bias"] + einsum("pcd,c->d", kernel, shift)
    return {
        "kernel": einsum("pcd,c,d->pcd", kernel, scale, out_scale).reshape(dense["kernel"].shape),
        "bias": bias * out_scale + out_shift,
    }


@jax.jit
def _fold_conv(conv: dict, stats: dict, before: tuple | None = None) -> dict:
    scale, shift = _scale_shift(conv["norm"], stats["norm"])
    kernel = conv["kernel"]
    if before is None:
        return {"kernel": kernel * _channels(scale, kernel), "bias": shift}
    before_scale, before_shift = before
    # Which rows (columns) of the kernel overlap the image at its first, inner and last row (column).
    meets = np.array([[0, 1, 1], [1, 1, 1], [1, 1, 0]], np.float32) if len(kernel) == 3 else np.ones((1, 1))
    bias = einsum("ri,cj,ijko,k,o->rco", meets, meets, kernel, before_shift, scale)
    bias += _channels(shift, bias)
    return {
        "kernel": einsum("ijko,k,o->ijko", kernel, before_scale, scale),
        "bias": bias if len(kernel) == 3 else bias[0, 0],
    }


def _scale_shift(norm: dict, stats: dict) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Rewrites a batch norm with running statistics as x * scale + shift."""
    scale = norm.get("scale", 1.0) / jnp.sqrt(stats["var"] + _EPSILON)
    return scale, norm.get("bias", 0.0) - stats["mean"] * scale


def _channels(values: jnp.ndarray, x: jnp.ndarray) -> jnp.ndarray:
    """Reshapes and casts per-channel values so that they broadcast against `x`."""
    return values.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


ARCHITECTURES = _family()
