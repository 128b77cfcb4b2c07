"""Margin heads for training: AdaFace, ArcFace and CosFace over one core.

All three turn descriptors into logits s (cos(theta + a) - b) on the target class and s cos(theta)
elsewhere; they differ in the angular margin a and the additive margin b.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from fpsset.ops.masking import project, safe_length

_COSINE_LIMIT = 1e-3


def margin_logits(
    cosine: jax.Array, labels: jax.Array, angular: jax.Array, additive: jax.Array, scale: float
) -> jax.Array:
    """scale * (cos(clip(theta + angular)) - additive) on the target class, scale * cos(theta) elsewhere.

    Args:
      cosine: [B, C] float32 in (-1, 1).
      labels: [B] int, the target classes; a row whose label is not in [0, C) has none.
      angular: [B] margins in radians, added to the target's angle.
      additive: [B] margins, taken from the target's cosine.
      scale: s.

    Returns:
      [B, C] float32 logits.
    """
    place = jnp.clip(labels, 0, cosine.shape[1] - 1)
    target = jnp.take_along_axis(cosine, place[:, None], axis=1)[:, 0]
    theta = jnp.clip(jnp.arccos(target) + angular, _COSINE_LIMIT, jnp.pi - _COSINE_LIMIT)
    moved = jnp.cos(theta) - additive
    is_target = jnp.arange(cosine.shape[1])[None, :] == labels[:, None]
    return scale * jnp.where(is_target, moved[:, None], cosine)


def class_cosines(descriptor: jax.Array, kernel: jax.Array, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Cosines of unit descriptors [B, D] and columns [D, C], their product in `dtype`; kept off -1 and 1."""
    # The columns' lengths divide the product, so that no unit kernel is written.
    lengths = jnp.maximum(safe_length(kernel, axis=0), 1e-12)
    cosine = project(descriptor, kernel.astype(dtype)) / lengths[None]
    return jnp.clip(cosine, -1 + _COSINE_LIMIT, 1 - _COSINE_LIMIT)


class HeadTerms(NamedTuple):
    """What a head makes logits from, beside descriptors."""

    kernel: jax.Array  # [D, columns]; those from C on are zero and belong to no class
    angular: jax.Array  # [B] margins, as of `margin_logits`
    additive: jax.Array  # [B]


class _MarginHead(nn.Module):
    """A class kernel with unit columns; subclasses say which margins apply.

    Attributes:
      num_classes: C.
      dtype: of the product of descriptors and columns, float32 or bfloat16.
      columns: of the kernel, at least C, so that they can be split evenly; C when None.
    """

    num_classes: int
    dtype: jnp.dtype = dataclasses.field(default=jnp.float32, kw_only=True)
    columns: int | None = dataclasses.field(default=None, kw_only=True)

    def margins(self, norms: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Angular and additive margin per row: [B] -> ([B], [B])."""
        raise AssertionError("a head defines its margins")

    @nn.compact
    def terms(self, dim: int, norm: jax.Array, *, train: bool = False) -> HeadTerms:
        """The kernel, and the margins of sets of the norms [B]; arguments as of a call."""
        kernel = self.param("kernel", self._draw_kernel, dim)
        return HeadTerms(kernel, *self.margins(norm, train))

    def __call__(self, descriptor, norm, labels, *, train: bool = False) -> jax.Array:
        """Logits of unit descriptors.

        Args:
          descriptor: [B, D] float32 of unit length.
          norm: [B] float32, the sets' norms.
          labels: [B] int in [0, C).
          train: update running statistics, where a head has any (collection 'batch_stats').

        Returns:
          [B, C] float32 logits, for a softmax cross-entropy.
        """
        kernel, angular, additive = self.terms(descriptor.shape[-1], norm, train=train)
        cosine = class_cosines(descriptor, kernel[:, : self.num_classes], self.dtype)
        return margin_logits(cosine, labels, angular, additive, self.scale)

    def _draw_kernel(self, key: jax.Array, dim: int) -> jax.Array:
        draw = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        padding = (self.columns or self.num_classes) - self.num_classes
        return jnp.pad(draw(key, (dim, self.num_classes)), ((0, 0), (0, padding)))


class AdaFaceHead(_MarginHead):
    """AdaFace (CVPR 2022): margins that follow the norm, so that hopeless images are not emphasised.

    z = clip(h (|f| - mean) / (std + 1e-3), -1, 1) without gradient; angular margin -m z, additive
    m + m z. The running mean and std of the norms are updated (rate 0.01) before they are used.

    Attributes:
      num_classes: C.
      margin: m.
      h: concentration of z.
      scale: s.

    Example:
      >>> import jax, jax.numpy as jnp, fpsset
      >>> head = fpsset.AdaFaceHead(num_classes=4)
      >>> sets, labels = jnp.eye(8)[:3], jnp.array([0, 1, 2])
      >>> variables = head.init(jax.random.key(0), sets, jnp.full(3, 20.0), labels)
      >>> head.apply(variables, sets, jnp.full(3, 20.0), labels).shape
      (3, 4)
    """

    margin: float = 0.8
    h: float = 0.333
    scale: float = 48.0

    def margins(self, norms, train):
        """See the class."""
        mean = self.variable("batch_stats", "mean", lambda: jnp.full((), 20.0, jnp.float32))
        std = self.variable("batch_stats", "std", lambda: jnp.full((), 100.0, jnp.float32))
        norms = jax.lax.stop_gradient(jnp.clip(norms, 1e-3, 100.0))
        if train and not self.is_initializing():
            mean.value = 0.99 * mean.value + 0.01 * jnp.mean(norms)
            std.value = 0.99 * std.value + 0.01 * jnp.std(norms, ddof=1 if norms.size > 1 else 0)
        z = jnp.clip(self.h * (norms - mean.value) / (std.value + 1e-3), -1.0, 1.0)
        return -self.margin * z, self.margin + self.margin * z


class ArcFaceHead(_MarginHead):
    """ArcFace (CVPR 2019): one angular margin for all.

    Attributes:
      num_classes: C.
      margin: radians.
      scale: s.

    Example:
      >>> import jax, jax.numpy as jnp, fpsset
      >>> head = fpsset.ArcFaceHead(num_classes=4)
      >>> sets, labels = jnp.eye(8)[:3], jnp.array([0, 1, 2])
      >>> variables = head.init(jax.random.key(0), sets, jnp.full(3, 20.0), labels)
      >>> head.apply(variables, sets, jnp.full(3, 20.0), labels).shape
      (3, 4)
    """

    margin: float = 0.5
    scale: float = 64.0

    def margins(self, norms, train):
        """See the class."""
        return jnp.full_like(norms, self.margin), jnp.zeros_like(norms)


class CosFaceHead(_MarginHead):
    """CosFace (CVPR 2018): one margin on the cosine for all.

    Attributes:
      num_classes: C.
      margin: taken from the target's cosine.
      scale: s.

    Example:
      >>> import jax, jax.numpy as jnp, fpsset
      >>> head = fpsset.CosFaceHead(num_classes=4)
      >>> sets, labels = jnp.eye(8)[:3], jnp.array([0, 1, 2])
      >>> variables = head.init(jax.random.key(0), sets, jnp.full(3, 20.0), labels)
      >>> head.apply(variables, sets, jnp.full(3, 20.0), labels).shape
      (3, 4)
    """

    margin: float = 0.35
    scale: float = 64.0

    def margins(self, norms, train):
        """See the class."""
        return jnp.zeros_like(norms), jnp.full_like(norms, self.margin)


HEADS = {"adaface": AdaFaceHead, "arcface": ArcFaceHead, "cosface": CosFaceHead}
