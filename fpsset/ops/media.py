"""Weights by which the faces of a medium, a still or a video, count as one face together."""

import jax
import jax.numpy as jnp

from fpsset.ops.masking import zero_padding

_NEVER = -1e30


def media_shares(media_size: jax.Array, mask: jax.Array) -> jax.Array:
    """The weight of each face if media count as one face each: 1 / the size of its medium, 0 on padding.

    Args:
      media_size: [*B, N] float32 >= 1, how many faces of the set share the medium; padding may hold anything.
      mask: [*B, N] bool.
    """
    return zero_padding(1 / jnp.maximum(jnp.where(mask, media_size, 1.0).astype(jnp.float32), 1.0), mask)


def media_softmax(
    log_weights: jax.Array, media: jax.Array, mask: jax.Array, axis_name: str | None = None
) -> jax.Array:
    """Weights that sum to 1 within each medium: the softmax of log weights over its faces.

    Args:
      log_weights: [*B, N] float32; padding may hold anything.
      media: [*B, N] int32 in [0, N'), equal for the faces of a medium; N' counts the slots of all devices.
      mask: [*B, N] bool.
      axis_name: the device axis that slots are split over, inside `shard_map`.

    Returns:
      [*B, N] float32, 0 on padding.
    """
    logs = jnp.where(mask, log_weights, _NEVER)
    # The maximum cancels, so no gradient need pass through it.
    largest = jax.lax.stop_gradient(_over_media(logs, media, mask, _NEVER, "max", axis_name))
    weights = jnp.where(mask, jnp.exp(logs - largest), 0.0)
    total = media_sum(weights, media, mask, axis_name)
    return weights / jnp.where(total > 0, total, 1.0)


def media_sum(
    values: jax.Array, media: jax.Array, mask: jax.Array, axis_name: str | None = None
) -> jax.Array:
    """The sum over each face's medium: [*B, N] -> [*B, N] float32. Arguments: see `media_softmax`."""
    return _over_media(jnp.where(mask, values, 0.0), media, mask, 0.0, "add", axis_name)


def _over_media(values, media, mask, start: float, combine: str, axis_name: str | None) -> jax.Array:
    """[*B, N] -> [*B, N], the maximum or the sum over each slot's medium."""
    slots = mask.shape[-1] * (1 if axis_name is None else jax.lax.axis_size(axis_name))
    codes = jnp.broadcast_to(jnp.where(mask, media, 0), values.shape)

    def one(values: jax.Array, codes: jax.Array) -> jax.Array:
        empty = jnp.full_like(values, start, shape=(slots,))
        merged = getattr(empty.at[codes], combine)(values)
        if axis_name is not None:
            merged = {"max": jax.lax.pmax, "add": jax.lax.psum}[combine](merged, axis_name)
        return merged[codes]

    flat = (array.reshape(-1, array.shape[-1]) for array in (values, codes))
    return jax.vmap(one)(*flat).reshape(values.shape)
