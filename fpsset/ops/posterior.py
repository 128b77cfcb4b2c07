"""The person behind a set of faces: a posterior mean under noise that depends on each face's quality.

A unit embedding is modelled as x_i = person + drift(c_i) + noise_i, where c_i is the quality of the face, its
expected cosine to the person. Poor faces drift alike, d(c) = d_0 + c d_1, and their noise is larger: the
part of a unit vector along the person has length c, the part across it sqrt(1 - c^2), so a face has the
precision c^2 / (1 - c^2). In a basis in which noise is a sphere and people vary independently with
variances b_j, the posterior mean of the person is b_j / (b_j + s / precision) times the weighted mean of
the faces.

Frames of a medium share their noise, so they count as one face together: weights are a softmax within the
medium.
"""

import jax
import jax.numpy as jnp

from fpsset.ops.precision import matmul

# Bounds of the expected cosine: precisions stay finite whatever a face's norm.
LEAST_COSINE, MOST_COSINE = 0.05, 0.95
# Cosine over which a face turns from different to a near-copy of a pick.
COPY_WIDTH = 0.02


def expected_cosine(log_quality: jax.Array, bias: jax.Array) -> jax.Array:
    """The expected cosine c of faces to their person: [*B] a . n u + p log n, [] -> [*B] in [.05, .95]."""
    return jnp.clip(log_quality + bias, LEAST_COSINE, MOST_COSINE)


def face_precision(cosine: jax.Array) -> jax.Array:
    """c^2 / (1 - c^2), the precision of a face with the expected cosine c."""
    squared = jnp.square(cosine)
    return squared / (1 - squared)


def near_copies(cosines: jax.Array, threshold: jax.Array) -> jax.Array:
    """How much each face is a near-copy of the pick that it is nearest to.

    Args:
      cosines: [*B, K, N] of faces to picks; -1 or less for picks that are not valid.
      threshold: [] cosine above which two faces are taken for copies.

    Returns:
      [*B, K, N] float32 in [0, 1]; of each face one entry at most is above 0.
    """
    alike = jax.nn.sigmoid((cosines - threshold) / COPY_WIDTH)
    nearest = jnp.argmax(cosines, axis=-2, keepdims=True)
    picks = jnp.arange(cosines.shape[-2]).reshape((-1, 1))
    return jnp.where(picks.reshape((1,) * (cosines.ndim - 2) + picks.shape) == nearest, alike, 0.0)


def posterior_mean(
    mean: jax.Array, precision: jax.Array, basis: jax.Array, variance: jax.Array, noise: jax.Array
) -> jax.Array:
    """The person given the weighted mean of its faces.

    Args:
      mean: [*B, D] float32, of faces less their drift.
      precision: [*B] float32, the faces' together.
      basis: [D, D] columns in which noise is a sphere and people vary independently.
      variance: [D] of people in these.
      noise: [] s, the variance of noise at precision 1.

    Returns:
      [*B, D] float32, coordinates in the basis.
    """
    coordinates = matmul(mean, basis)
    spread = noise / jnp.maximum(precision, 1e-12)[..., None]
    gain = variance.reshape((1,) * precision.ndim + variance.shape)
    return coordinates * (gain / (gain + spread))
