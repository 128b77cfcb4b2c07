"""ViT: CVLface's transformer backbones, with or without relative positions of keypoints (KP-RPE).

A face of 112 x 112 pixels is cut into patches, all of which stay tokens to the end: the embedding is a linear
function of all of them (An et al., "Killing Two Birds with One Stone", CVPR 2022). KP-RPE adds to each head's
scores a bias that depends on how patch and patch lie to each other, chosen by where the query's patch lies
relative to the face's landmarks (Kim et al., arXiv 2403.14852). Layout and constants are those of CVLface's
public code; for inference only.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from fpsset.models.iresnet import IMAGE_SIZE, require_aligned
from fpsset.ops.masking import normalize
from fpsset.ops.precision import einsum

KEYPOINTS = 5
_EPSILON = 1e-5  # of layer norms
# Offsets between patches, in rows and in columns, fall into buckets: one each up to alpha, then by their
# logarithm, so that gamma would reach beta.
_RATIO = 1.9
_ALPHA, _BETA, _GAMMA = _RATIO, 2 * _RATIO, 8 * _RATIO
_SIDE = 2 * int(_BETA) + 1
BUCKETS = _SIDE**2


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """An architecture of the ViT family.

    Attributes:
      depth: number of blocks.
      num_heads: of each block.
      hidden: width of the blocks' inner layer.
      width: of the tokens.
      patch: pixels of a patch's side.
      keypoints: whether it has KP-RPE, which needs the face's landmarks.
      dim: D, the width of the embedding.
    """

    depth: int
    num_heads: int
    hidden: int
    width: int = 512
    patch: int = 8
    keypoints: bool = False
    dim: int = 512

    @property
    def grid(self) -> int:
        """Patches in a row."""
        return IMAGE_SIZE // self.patch

    @property
    def name(self) -> str:
        """The name in `ARCHITECTURES`, or a description of other configurations."""
        for name, config in ARCHITECTURES.items():
            if config == self:
                return name
        kind = "vit_kprpe" if self.keypoints else "vit"
        return f"{kind}[{self.depth}] ({self.num_heads} heads, width {self.width}, patch {self.patch})"


def _family() -> dict[str, ViTConfig]:
    sizes = {"small": ViTConfig(12, 8, 2560), "base": ViTConfig(24, 16, 1536)}
    plain = {f"vit_{size}": config for size, config in sizes.items()}
    return plain | {
        f"vit_{size}_kprpe": dataclasses.replace(config, keypoints=True) for size, config in sizes.items()
    }


class Dense(nn.Module):
    """A linear layer in the dtype of its input, with sums in float32.

    Attributes:
      features: output channels, or their shape.
      use_bias: whether it has a bias.
    """

    features: int | tuple[int, ...]
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[*B, C] -> [*B, *features], in the dtype of `x`."""
        shape = self.features if isinstance(self.features, tuple) else (self.features,)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], *shape))
        y = einsum("...c,cf->...f", x, kernel.reshape(len(kernel), -1).astype(x.dtype))
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, shape)
            y = y + bias.astype(y.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
        return y.astype(x.dtype).reshape(*x.shape[:-1], *shape)


class Attention(nn.Module):
    """Self-attention over all patches, with an optional bias of the scores.

    Attributes:
      num_heads: H.
    """

    num_heads: int

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array | None) -> jax.Array:
        """[B, N, C], None or [B, H, N, N] float32 -> [B, N, C]."""
        width = x.shape[-1]
        channels = width // self.num_heads
        parts = Dense((3, self.num_heads, channels), use_bias=False, name="qkv")(x)
        query, key, value = (parts[:, :, part] for part in range(3))
        scores = einsum("bqhc,bkhc->bhqk", query, key) / math.sqrt(channels)
        weights = jax.nn.softmax(scores if bias is None else scores + bias)
        mixed = einsum("bhqk,bkhc->bqhc", weights.astype(x.dtype), value).astype(x.dtype)
        return Dense(width, name="out")(mixed.reshape(*x.shape[:2], width))


class Block(nn.Module):
    """Attention and two dense layers, each after a layer norm and added to its input.

    Attributes:
      config: the architecture.
    """

    config: ViTConfig

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array | None) -> jax.Array:
        """See `Attention`."""
        x = x + Attention(self.config.num_heads, name="attention")(_layer_norm("norm1", x.dtype)(x), bias)
        y = Dense(self.config.hidden, name="dense1")(_layer_norm("norm2", x.dtype)(x))
        return x + Dense(self.config.width, name="dense2")(jnp.clip(y, 0, 6))


class ViT(nn.Module):
    """A backbone that embeds aligned face images.

    Attributes:
      config: the architecture.
      dtype: dtype of activations and products; layer norms, sums and the outputs are float32.
    """

    config: ViTConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, keypoints: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Embeds aligned faces.

        Args:
          images: [B, 112, 112, 3] float in [-1, 1], in the colour order that the weights expect.
          keypoints: [B, 5, 2] float, of KP-RPE: (x, y) of eyes, nose and corners of the mouth, as shares of
            the image's width and height.

        Returns:
          (embeddings [B, D] float32 unit rows, norms [B] float32 >= 0).

        Raises:
          ValueError: images or keypoints have another shape, or the latter are missing.
        """
        require_aligned(images)
        config, count = self.config, len(images)
        away = None
        if config.keypoints:
            given = None if keypoints is None else keypoints.shape
            if given != (count, KEYPOINTS, 2):
                raise ValueError(f"keypoints must be [{count}, {KEYPOINTS}, 2]; they are {given}")
            away = _places_from(keypoints, config.grid)
            biases = KeypointBiases(config, name="keypoints")
        x = _patches(images.astype(self.dtype), config)
        x = Dense(config.width, name="patches")(x)
        tokens = self.param("positions", nn.initializers.normal(0.02), (config.grid**2, config.width))
        x = x + tokens.astype(x.dtype)[None]
        for number in range(config.depth):
            bias = None
            if away is not None:
                # B H N^2 numbers wait for their block, so that one block's are held at a time.
                x, away = lax.optimization_barrier((x, away))
                bias = biases(away, number)
            x = Block(config, name=f"block_{number:02}")(x, bias)
        x = _layer_norm("norm", jnp.float32)(x).reshape(count, -1)
        x = Dense(config.width, name="features")(x)
        return normalize(Dense(config.dim, name="dense")(x))


class KeypointBiases(nn.Module):
    """The biases that KP-RPE adds to the scores of a block.

    Attributes:
      config: the architecture.
    """

    config: ViTConfig

    def setup(self) -> None:
        """Declares the parameters of all blocks."""
        shape = (self.config.depth, self.config.num_heads, BUCKETS)
        self.kernel = self.param("kernel", nn.initializers.zeros, (2 * KEYPOINTS, *shape))
        self.bias = self.param("bias", nn.initializers.zeros, shape)

    def __call__(self, away: jax.Array, block: int) -> jax.Array:
        """From `_places_from` -> [B, H, N, N] float32, from query to key."""
        table = einsum("bnk,khs->bhns", away, self.kernel[:, block]) + self.bias[None, block, :, None]
        return jnp.take_along_axis(table, bucket_of_offsets(self.config.grid)[None, None], axis=-1)


def _places_from(keypoints: jax.Array, grid: int) -> jax.Array:
    """[B, 5, 2] (x, y) in 0..1 -> [B, N, 10] float32: from keypoints to the patches' centres, row by row."""
    centres = (np.arange(grid, dtype=np.float32) + 0.5) / grid
    places = np.stack(np.meshgrid(centres, centres), -1).reshape(1, -1, 1, 2)
    return (places - keypoints.astype(jnp.float32)[:, None]).reshape(len(keypoints), grid**2, 2 * KEYPOINTS)


@functools.cache
def bucket_of_offsets(grid: int) -> np.ndarray:
    """The bucket of each pair of patches, row by row: [N, N] int32 in 0 ... 48, from query to key."""
    offset = np.arange(grid)[:, None] - np.arange(grid)[None]
    far = np.maximum(np.abs(offset), _ALPHA)
    spread = _ALPHA + np.log(far / _ALPHA) / math.log(_GAMMA / _ALPHA) * (_BETA - _ALPHA)
    index = np.where(
        np.abs(offset) <= _ALPHA, offset, np.sign(offset) * np.minimum(np.round(spread), _BETA).astype(int)
    )
    places = index + int(_BETA)
    rows = places[:, None, :, None]
    columns = places[None, :, None, :]
    return (rows * _SIDE + columns).reshape(grid**2, grid**2).astype(np.int32)


def _patches(images: jax.Array, config: ViTConfig) -> jax.Array:
    """[B, 112, 112, 3] -> [B, N, patch * patch * 3]: the pixels of each patch, row by row."""
    side = config.grid * config.patch
    cut = images[:, :side, :side].reshape(-1, config.grid, config.patch, config.grid, config.patch, 3)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(len(images), config.grid**2, -1)


def _layer_norm(name: str, dtype: jnp.dtype) -> nn.LayerNorm:
    """A layer norm in float32, whose output is of `dtype`."""
    return nn.LayerNorm(epsilon=_EPSILON, dtype=dtype, name=name, use_fast_variance=False)


def vit_config_of(variables: dict) -> ViTConfig:
    """Infers the architecture from a backbone's variables.

    Args:
      variables: {'params': ...} of a `ViT`.

    Raises:
      KeyError: these are not the variables of a `ViT`.
    """
    params = variables["params"]
    block = params["block_00"]
    _, _, heads, _ = block["attention"]["qkv"]["kernel"].shape
    pixels, width = params["patches"]["kernel"].shape
    return ViTConfig(
        depth=sum(name.startswith("block_") for name in params),
        num_heads=heads,
        hidden=block["dense1"]["kernel"].shape[1],
        width=width,
        patch=math.isqrt(pixels // 3),
        keypoints="keypoints" in params,
        dim=params["dense"]["kernel"].shape[1],
    )


ARCHITECTURES = _family()
