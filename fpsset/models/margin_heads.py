"""Margin heads for training: AdaFace, ArcFace and CosFace.

All three turn descriptors into logits s (cos(theta + a) - b) for the target class and s cos(theta) for the
others. They differ only in the angular margin a and the additive margin b.
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
    """scale * (cos(clip(theta + angular)) - additive) for the target class, scale * cos(theta) elsewhere.

    Args:
      cosine: [B, C] float32 in (-1, 1).
      labels: [B] int, the target classes; a row with a label outside [0, C) has no target.
      angular: [B] float32 margins in radians, added to the target's angle.
      additive: [B] float32 margins, subtracted from the target's cosine.
      scale: s > 0.

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
    """Cosines between descriptors and class centers, clipped to [-0.999, 0.999].

    Args:
      descriptor: [B, D] float32 unit rows.
      kernel: [D, C] float32, one class center per column, of any length.
      dtype: dtype of the matrix product, float32 or bfloat16.

    Returns:
      [B, C] float32.
    """
    # Divide the product by the column lengths, so that no normalised kernel is written.
    lengths = jnp.maximum(safe_length(kernel, axis=0), 1e-12)
    cosine = project(descriptor, kernel.astype(dtype)) / lengths[None]
    return jnp.clip(cosine, -1 + _COSINE_LIMIT, 1 - _COSINE_LIMIT)


class HeadTerms(NamedTuple):
    """Everything but the descriptors that a head's logits depend on."""

    kernel: jax.Array  # [D, columns] float32; columns from C on are zero padding
    angular: jax.Array  # [B] float32, see `margin_logits`
    additive: jax.Array  # [B] float32, see `margin_logits`


class _MarginHead(nn.Module):
    """Cosine logits with margins; subclasses define the margins.

    Attributes:
      num_classes: C.
      dtype: dtype of the product of descriptors and kernel, float32 or bfloat16.
      columns: columns of the kernel, at least C; padding lets them be split evenly over devices. C when None.
    """

    num_classes: int
    dtype: jnp.dtype = dataclasses.field(default=jnp.float32, kw_only=True)
    columns: int | None = dataclasses.field(default=None, kw_only=True)

    def margins(self, norms: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """Angular and additive margin of each row: norms [B] -> ([B], [B])."""
        raise AssertionError("subclasses define margins")

    @nn.compact
    def terms(self, dim: int, norm: jax.Array, *, train: bool = False) -> HeadTerms:
        """The kernel and the margins, without the logits.

        Args:
          dim: D.
          norm: [B] float32, the norms of the sets.
          train: see `__call__`.
        """
        kernel = self.param("kernel", self._draw_kernel, dim)
        return HeadTerms(kernel, *self.margins(norm, train))

    def __call__(self, descriptor, norm, labels, *, train: bool = False) -> jax.Array:
        """Logits of descriptors.

        Args:
          descriptor: [B, D] float32 unit rows.
          norm: [B] float32 >= 0, the norms of the sets.
          labels: [B] int in [0, C).
          train: update running statistics (collection 'batch_stats'), if the head has any.

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
    """AdaFace (CVPR 2022, arXiv 2204.00964): margins depend on the norm.

    Hard samples count more when their norm is large and less when it is small, so that unrecognisable images
    are not emphasised. With z = clip(h (|f| - mean) / (std + 1e-3), -1, 1), which gets no gradient, the
    angular margin is -m z and the additive margin m + m z. The running mean and standard deviation of the
    norms are updated before they are used.

    Attributes:
      num_classes: C.
      margin: m.
      h: concentration of z; smaller values keep z closer to 0.
      scale: s.
      t_alpha: rate of the running statistics, in [0, 1].
      group: consecutive sets whose norms are summarised together, as on a GPU of their own; None: the batch.
        Each group updates the same running statistics with its own norms and uses the outcome; that of the
        first is kept.

    Example:
      >>> import jax, numpy as np, fpsset
      >>> head = fpsset.AdaFaceHead(num_classes=4)
      >>> sets, norms, labels = np.eye(3, 8, dtype="f"), np.full(3, 20, "f"), np.arange(3)
      >>> variables = jax.jit(head.init)(jax.random.key(0), sets, norms, labels)
      >>> jax.jit(head.apply)(variables, sets, norms, labels).shape
      (3, 4)
    """

    margin: float = 0.8
    h: float = 0.333
    scale: float = 48.0
    t_alpha: float = 0.01
    group: int | None = None

    def margins(self, norms, train):
        """See the class.

        Raises:
          ValueError: the sets do not divide into groups, in training.
        """
        mean = self.variable("batch_stats", "mean", lambda: jnp.full((), 20.0, jnp.float32))
        std = self.variable("batch_stats", "std", lambda: jnp.full((), 100.0, jnp.float32))
        norms = jax.lax.stop_gradient(jnp.clip(norms, 1e-3, 100.0))
        centre, spread = mean.value, std.value
        if train and not self.is_initializing():
            size = self.group or norms.size
            if norms.size % size:
                raise ValueError(f"{norms.size} sets do not divide into groups of {size}")
            groups = norms.reshape(-1, size)
            means, stds = jnp.mean(groups, axis=1), jnp.std(groups, axis=1, ddof=1 if size > 1 else 0)
            means = (1 - self.t_alpha) * mean.value + self.t_alpha * means
            stds = (1 - self.t_alpha) * std.value + self.t_alpha * stds
            mean.value, std.value = means[0], stds[0]
            centre, spread = jnp.repeat(means, size), jnp.repeat(stds, size)
        z = jnp.clip(self.h * (norms - centre) / (spread + 1e-3), -1.0, 1.0)
        return -self.margin * z, self.margin + self.margin * z


class ArcFaceHead(_MarginHead):
    """ArcFace (CVPR 2019, arXiv 1801.07698): the same angular margin for every row.

    Attributes:
      num_classes: C.
      margin: angular margin in radians.
      scale: s.

    Example:
      >>> import jax, numpy as np, fpsset
      >>> head = fpsset.ArcFaceHead(num_classes=4)
      >>> sets, norms, labels = np.eye(3, 8, dtype="f"), np.full(3, 20, "f"), np.arange(3)
      >>> variables = jax.jit(head.init)(jax.random.key(0), sets, norms, labels)
      >>> jax.jit(head.apply)(variables, sets, norms, labels).shape
      (3, 4)
    """

    margin: float = 0.5
    scale: float = 64.0

    def margins(self, norms, train):
        """See the class."""
        return jnp.full_like(norms, self.margin), jnp.zeros_like(norms)


class CosFaceHead(_MarginHead):
    """CosFace (CVPR 2018, arXiv 1801.09414): the same margin on the cosine for every row.

    Attributes:
      num_classes: C.
      margin: subtracted from the target's cosine.
      scale: s.

    Example:
      >>> import jax, numpy as np, fpsset
      >>> head = fpsset.CosFaceHead(num_classes=4)
      >>> sets, norms, labels = np.eye(3, 8, dtype="f"), np.full(3, 20, "f"), np.arange(3)
      >>> variables = jax.jit(head.init)(jax.random.key(0), sets, norms, labels)
      >>> jax.jit(head.apply)(variables, sets, norms, labels).shape
      (3, 4)
    """

    margin: float = 0.35
    scale: float = 64.0

    def margins(self, norms, train):
        """See the class."""
        return jnp.zeros_like(norms), jnp.full_like(norms, self.margin)


HEADS = {"adaface": AdaFaceHead, "arcface": ArcFaceHead, "cosface": CosFaceHead}
