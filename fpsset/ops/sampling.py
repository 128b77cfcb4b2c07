"""Farthest-point sampling under the norm-weighted metric: hard, and by straight-through Gumbel-softmax."""

import functools

import jax
import jax.numpy as jnp

from fpsset.face_set import check_faces
from fpsset.ops.masking import count_valid, normalize, safe_length, widen, zero_padding
from fpsset.ops.metric import DEFAULT_GAMMA, cosine_distance, norm_weight
from fpsset.ops.precision import einsum
from fpsset.ops.ties import best_face

# Finite, so that the masked softmax of a set without faces is zero instead of NaN.
_MASKED_LOGIT = -1e30


def _check(embeddings, norms, mask, size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    if size < 1:
        raise ValueError(f"size is {size}; it must be 1 or more, because a coreset has at least one face")
    embeddings, norms, mask = (x if x is None else jnp.asarray(x) for x in (embeddings, norms, mask))
    check_faces(embeddings, norms, mask)
    return embeddings, norms, mask


def farthest_point_sampling(
    embeddings: jax.Array,
    norms: jax.Array,
    mask: jax.Array,
    size: int = 3,
    gamma: jax.Array | float = DEFAULT_GAMMA,
    axis_name: str | None = None,
) -> jax.Array:
    """Picks `size` faces: the one with the largest norm, then each time the farthest from those picked.

    The distance is d(i, s) = n_i^gamma (1 - cos(u_i, u_s)) / 2. After pick s, D_i <- min(D_i, d(i, s)), and
    the next pick is the face with the largest D_i; no face is picked twice. (arXiv 2308.14075, section 3.)

    Ties are broken by content, so the picks do not depend on the order of the faces: see `ops.ties`. Of exact
    copies, which are interchangeable, the lowest index is returned.

    Args:
      embeddings: [*B, N, D] float32 or bfloat16 unit rows, N >= 1; [*P, 1, N, D] for packs.
      norms: [*B, N] float, >= 0; [*P, 1, N] for packs.
      mask: [*B, N] bool, True where a slot holds a face; [*P, S, N] for packs, where *B is [*P, S].
      size: K >= 1.
      gamma: scalar exponent of the norm in the metric.
      axis_name: inside `shard_map`, the device axis over which the slots of each set are split, N per device.
        Each device finds its best face, and all agree on the best of these.

    Returns:
      [*B, K] int32 slots, counted over all devices; -1 where a set has fewer than K faces.

    Raises:
      ValueError: `size` < 1, the mask is not bool, or the shapes disagree.

    Example:
      >>> import numpy as np, fpsset
      >>> u = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], "f")
      >>> fpsset.farthest_point_sampling(u, np.array([3.0, 1.0, 2.0]), np.ones(3, bool), size=2).tolist()
      [0, 2]
    """
    return _sample(*_check(embeddings, norms, mask, size), gamma, size, axis_name)


# Jitted, so that models trace it once for all sets of one shape, and calls outside of programs compile one.
@functools.partial(jax.jit, static_argnums=(4, 5))
def _sample(embeddings, norms, mask, gamma, size: int, axis_name: str | None) -> jax.Array:
    """`farthest_point_sampling` of arrays that have been checked."""
    (norms,) = widen(zero_padding(norms, mask))
    weight = norm_weight(norms, gamma)
    first_slot = 0 if axis_name is None else jax.lax.axis_index(axis_name) * mask.shape[-1]
    slots = jnp.broadcast_to(first_slot + jnp.arange(mask.shape[-1], dtype=jnp.int32), mask.shape)

    def best(score, available):
        index = best_face(score, norms, embeddings, available)
        found = jnp.any(available, axis=-1)
        if axis_name is None:
            return jnp.where(found, index, -1)
        return _best_of_devices(score, norms, embeddings, index, found, axis_name)

    def pick(carry, _):
        last, distance, available = carry
        center = take_faces(embeddings, last[..., None], axis_name)[..., 0, :]
        # Padded rows may hold anything: rows do not mix, and distances of padded rows are never used.
        distance = jnp.minimum(distance, weight * cosine_distance(embeddings, center))
        index = best(distance, available)
        return (index, distance, available & (slots != index[..., None])), index

    first = best(norms, mask)
    start = (first, jnp.full_like(norms, jnp.inf), mask & (slots != first[..., None]))
    _, others = jax.lax.scan(pick, start, length=size - 1)
    return jnp.moveaxis(jnp.concatenate([first[None], others]), 0, -1)


def _best_of_devices(score, norms, embeddings, index, found, axis_name: str) -> jax.Array:
    """The slot, counted over all devices, of the best of each device's best face: [*B] int32, -1 if none.

    Args:
      score: [*B, N] of this device's faces.
      norms: [*B, N].
      embeddings: [*B, N, D].
      index: [*B] this device's best face.
      found: [*B] bool, whether this device has one.
      axis_name: the device axis.
    """
    here, slots = jax.lax.axis_index(axis_name), score.shape[-1]
    devices = jnp.arange(jax.lax.axis_size(axis_name)).reshape(*(1,) * found.ndim, -1)

    def at_index(faces):
        return jnp.take_along_axis(faces, index[..., None, None], axis=-2)[..., 0, :].astype(jnp.float32)

    columns = score[..., None], jnp.broadcast_to(norms, score.shape)[..., None], embeddings
    mine = jnp.concatenate([*map(at_index, columns), found[..., None]], axis=-1)
    # A sum with zeros of the other devices, rather than a gather, tells JAX that all hold the same.
    is_mine = (devices == here) & found[..., None]
    every = jax.lax.psum(jnp.where(is_mine[..., None], mine[..., None, :], 0.0), axis_name)
    taking_part = every[..., -1] > 0
    owner = best_face(every[..., 0], every[..., 1], every[..., 2:-1], taking_part)
    slot = jax.lax.psum(jnp.where(owner == here, here * slots + index, 0), axis_name)
    return jnp.where(jnp.any(taking_part, axis=-1), slot, -1)


def farthest_from(
    embeddings: jax.Array,
    norms: jax.Array,
    mask: jax.Array,
    centers: jax.Array,
    count: jax.Array | int,
    gamma: jax.Array | float = DEFAULT_GAMMA,
) -> tuple[jax.Array, jax.Array]:
    """The candidate for the next pick of `farthest_point_sampling` within one part of a set.

    Args:
      embeddings: [N, D] unit rows of this part.
      norms: [N] float, >= 0.
      mask: [N] bool, True where a slot holds a face that is not picked yet.
      centers: [K, D] unit rows, the picks so far; rows from `count` on are ignored.
      count: number of picks so far, in [1, K].
      gamma: scalar exponent of the norm in the metric.

    Returns:
      (float32 distance of the farthest face to its nearest center, -inf if no face is left; its int32 slot).
      Ties are broken as by `farthest_point_sampling`.
    """
    norms = zero_padding(norms, mask)
    weight = norm_weight(norms, gamma)
    distance = jnp.full_like(weight, jnp.inf)
    for place in range(len(centers)):
        nearer = jnp.minimum(distance, weight * cosine_distance(embeddings, centers[place]))
        distance = jnp.where(place < count, nearer, distance)
    distance = jnp.where(mask, distance, -jnp.inf)
    return jnp.max(distance), best_face(distance, norms, embeddings, mask)


def take_faces(faces: jax.Array, indices: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Gathers picked faces. The result for a pick of -1 is unspecified; mask it out.

    Args:
      faces: [*B, N, D] or [*B, N]; with `axis_name`, this device's part.
      indices: [*B, K] int32, from `farthest_point_sampling`.
      axis_name: inside `shard_map`, the device axis over which the slots of each set are split.

    Returns:
      [*B, K, D] or [*B, K], the same on all devices.
    """
    slots = faces.shape[indices.ndim - 1]
    places = indices if axis_name is None else indices - jax.lax.axis_index(axis_name) * slots
    here = (places >= 0) & (places < slots) & (indices >= 0)
    places = jnp.clip(places, 0, slots - 1)
    if faces.ndim > indices.ndim:
        here, places = here[..., None], places[..., None]
    taken = jnp.take_along_axis(faces, places, axis=indices.ndim - 1)
    return taken if axis_name is None else jax.lax.psum(jnp.where(here, taken, 0), axis_name)


def soft_farthest_point_sampling(
    embeddings: jax.Array,
    norms: jax.Array,
    mask: jax.Array,
    noise: jax.Array,
    size: int = 3,
    gamma: jax.Array | float = DEFAULT_GAMMA,
    temperature: jax.Array | float = 1.0,
    score_scale: jax.Array | float = 1.0,
    straight_through: bool = True,
) -> jax.Array:
    """Differentiable farthest-point sampling by Gumbel-softmax, for training.

    The scores are those of `farthest_point_sampling`; each pick is drawn from
    softmax((score_scale * score + noise) / temperature). Straight-through: the forward pass is one-hot, the
    backward pass is the gradient of the softmax. Unlike at inference, a face may be drawn more than once.
    (arXiv 2308.14075, section 3; Gumbel-softmax: arXiv 1611.01144.)

    Args:
      embeddings: [*B, N, D] unit rows.
      norms: [*B, N] float, >= 0.
      mask: [*B, N] bool, True where a slot holds a face; for packs see `farthest_point_sampling`.
      noise: [*B, K, N] standard Gumbel draws, such as from `jax.random.gumbel`.
      size: K >= 1.
      gamma: scalar exponent of the norm in the metric.
      temperature: scalar > 0.
      score_scale: scalar > 0; large values approach the hard picks.
      straight_through: False returns the softmax rows themselves, the smooth function whose gradient the
        straight-through rows use.

    Returns:
      [*B, K, N] float32, rows that sum to 1; rows of zeros where a set has fewer than K faces.

    Raises:
      ValueError: `size` < 1, the mask is not bool, or the shapes disagree.

    Example:
      >>> import jax, numpy as np, fpsset
      >>> u, norms = np.eye(3, dtype="f"), np.array([3.0, 1.0, 2.0])
      >>> noise = jax.random.gumbel(jax.random.key(0), (2, 3))
      >>> rows = fpsset.soft_farthest_point_sampling(u, norms, np.ones(3, bool), noise, size=2)
      >>> rows.sum(axis=1).tolist()
      [1.0, 1.0]
    """
    embeddings, norms, mask = _check(embeddings, norms, mask, size)
    if noise.shape != (*mask.shape[:-1], size, mask.shape[-1]):
        raise ValueError(
            f"noise must be [*B, K, N] with K = {size} and N = {mask.shape[-1]}; it is {list(noise.shape)}"
        )
    faces = embeddings, norms, mask, noise
    return _sample_softly(*faces, gamma, temperature, score_scale, size, straight_through)


@functools.partial(jax.jit, static_argnums=(7, 8))
def _sample_softly(
    embeddings, norms, mask, noise, gamma, temperature, score_scale, size: int, straight_through: bool
) -> jax.Array:
    """`soft_farthest_point_sampling` of arrays that have been checked."""
    embeddings, norms = widen(zero_padding(embeddings, mask), zero_padding(norms, mask))
    weight = norm_weight(norms, gamma)
    faces = count_valid(mask)
    # The pick's center is the direction of sum_i m_i n_i u_i, so its gradient depends on the norms.
    # A face of norm 0 still has a direction, so it enters with length 1. Rows are rescaled inside reductions
    # only, so that no [B, N, D] array is written.
    length = safe_length(embeddings)
    inverse = 1 / jnp.where(length > 0, length, 1.0)
    shares = jnp.where(norms > 0, norms, 1.0) * inverse

    def pick(carry, inputs):
        score, distance = carry
        k, noise_k = inputs
        logits = jnp.where(
            mask, (score_scale * score + noise_k.astype(norms.dtype)) / temperature, _MASKED_LOGIT
        )
        row = jax.nn.softmax(logits, axis=-1) * mask
        if straight_through:
            hard = jax.nn.one_hot(jnp.argmax(logits, axis=-1), mask.shape[-1], dtype=row.dtype)
            row = hard + (row - jax.lax.stop_gradient(row))
        center = einsum("...n,...nd->...d", row * shares, embeddings)
        # As a product: its gradient stores only the faces, not their K differences from the centers.
        cosine = inverse * jnp.sum(embeddings * normalize(center)[0][..., None, :], axis=-1)
        distance = jnp.minimum(distance, weight * (1 - cosine) / 2)
        return (distance, distance), jnp.where((k < faces)[..., None], row, 0.0)

    start = (norms, jnp.full_like(norms, jnp.inf))
    _, rows = jax.lax.scan(pick, start, (jnp.arange(size), jnp.moveaxis(noise, -2, 0)))
    return jnp.moveaxis(rows, 0, -2)
