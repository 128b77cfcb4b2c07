"""Farthest-point sampling under the quality-aware metric: hard, and straight-through Gumbel-softmax."""

import jax
import jax.numpy as jnp

from fpsset.ops.masking import count_valid, normalize, widen, zero_padding
from fpsset.ops.metric import cosine_distance, quality_weight

# Finite, so that a set without a real face gives a softmax of zeros after masking and not NaN.
_NEVER = -1e30


def _check(embeddings, norms, mask, size: int) -> None:
    if size < 1:
        raise ValueError(f"size is {size}: a coreset holds at least one face")
    if embeddings.shape[:-1] != norms.shape or norms.shape != mask.shape:
        raise ValueError(
            "embeddings [*B, N, D], norms [*B, N] and mask [*B, N] disagree: "
            f"{embeddings.shape}, {norms.shape}, {mask.shape}"
        )


def farthest_point_sampling(
    embeddings: jax.Array,
    norms: jax.Array,
    mask: jax.Array,
    size: int = 3,
    gamma: jax.Array | float = 0.35,
) -> jax.Array:
    """Picks `size` faces, the best one first, then each the farthest from those picked before.

    Pick 1 takes the largest norm. After pick s, D_i <- min(D_i, d(i, s)); the next pick takes the
    largest D_i. Ties go to the lowest index, and no face is picked twice. (arXiv 2308.14075, section 3.)

    Args:
      embeddings: [*B, N, D] float32 or bfloat16, unit rows, N >= 1.
      norms: [*B, N], >= 0.
      mask: [*B, N] bool, True where a face is real.
      size: K >= 1.
      gamma: scalar exponent of the norm in the metric.

    Returns:
      [*B, K] int32 indices into N; -1 for the picks beyond the number of real faces.

    Raises:
      ValueError: `size` < 1, or shapes that disagree.
    """
    _check(embeddings, norms, mask, size)
    (norms,) = widen(zero_padding(norms, mask))
    weight = quality_weight(norms, gamma)
    slots = jnp.broadcast_to(jnp.arange(mask.shape[-1], dtype=jnp.int32), mask.shape)

    def best(score, available):
        index = jnp.argmax(jnp.where(available, score, -jnp.inf), axis=-1).astype(jnp.int32)
        return jnp.where(jnp.any(available, axis=-1), index, -1)

    def pick(carry, _):
        last, distance, available = carry
        place = jnp.maximum(last, 0)[..., None, None]
        center = jnp.take_along_axis(embeddings, place, axis=-2)[..., 0, :]
        # Padded rows may hold anything: each row's distance is its own, and theirs are never looked at.
        distance = jnp.minimum(distance, weight * cosine_distance(embeddings, center))
        index = best(distance, available)
        return (index, distance, available & (slots != index[..., None])), index

    first = best(norms, mask)
    start = (first, jnp.full_like(norms, jnp.inf), mask & (slots != first[..., None]))
    _, others = jax.lax.scan(pick, start, length=size - 1)
    return jnp.moveaxis(jnp.concatenate([first[None], others]), 0, -1)


def soft_farthest_point_sampling(
    embeddings: jax.Array,
    norms: jax.Array,
    mask: jax.Array,
    noise: jax.Array,
    size: int = 3,
    gamma: jax.Array | float = 0.35,
    temperature: jax.Array | float = 1.0,
    score_scale: jax.Array | float = 1.0,
    straight_through: bool = True,
) -> jax.Array:
    """Differentiable farthest-point sampling by Gumbel-softmax, for training.

    The scores are those of `farthest_point_sampling`; each pick draws from
    softmax((score_scale * score + noise) / temperature). Straight-through: one-hot forward, the
    gradient of the softmax backward. Unlike at inference a face may be drawn again.

    Args:
      embeddings: [*B, N, D] unit rows.
      norms: [*B, N], >= 0.
      mask: [*B, N] bool.
      noise: [*B, K, N] standard Gumbel draws, as of `jax.random.gumbel`.
      size: K >= 1.
      gamma: scalar exponent of the norm in the metric.
      temperature: scalar > 0.
      score_scale: scalar; large values approach the hard selection.
      straight_through: False returns the softmax rows themselves, the smooth function whose
        gradient the straight-through rows borrow.

    Returns:
      [*B, K, N] float32 rows that sum to 1; rows of zeros for picks beyond the number of real faces.

    Raises:
      ValueError: `size` < 1, or shapes that disagree.
    """
    _check(embeddings, norms, mask, size)
    if noise.shape != (*mask.shape[:-1], size, mask.shape[-1]):
        raise ValueError(f"noise must be [*B, K, N] with K = {size}, N = {mask.shape[-1]}; got {noise.shape}")
    embeddings, norms = widen(zero_padding(embeddings, mask), zero_padding(norms, mask))
    weight = quality_weight(norms, gamma)
    faces = count_valid(mask)
    # The pick's center is the direction of sum_i m_i n_i u_i, so norms have a part in its gradient.
    # A face of norm 0 still has a direction: it counts with length 1.
    directions, _ = normalize(embeddings)
    features = jnp.where(norms > 0, norms, 1.0)[..., None] * directions

    def pick(carry, inputs):
        score, distance = carry
        k, noise_k = inputs
        logits = jnp.where(mask, (score_scale * score + noise_k.astype(norms.dtype)) / temperature, _NEVER)
        row = jax.nn.softmax(logits, axis=-1) * mask
        if straight_through:
            hard = jax.nn.one_hot(jnp.argmax(logits, axis=-1), mask.shape[-1], dtype=row.dtype)
            row = hard + (row - jax.lax.stop_gradient(row))
        center = jnp.einsum("...n,...nd->...d", row, features, precision=jax.lax.Precision.HIGHEST)
        # As a product, whose gradient keeps the faces alone and not their K differences from the centers.
        cosine = jnp.sum(directions * normalize(center)[0][..., None, :], axis=-1)
        distance = jnp.minimum(distance, weight * (1 - cosine) / 2)
        return (distance, distance), jnp.where((k < faces)[..., None], row, 0.0)

    start = (norms, jnp.full_like(norms, jnp.inf))
    _, rows = jax.lax.scan(pick, start, (jnp.arange(size), jnp.moveaxis(noise, -2, 0)))
    return jnp.moveaxis(rows, 0, -2)
