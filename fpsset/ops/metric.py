"""The quality-aware cosine distance (FaceCoresetNet, arXiv 2308.14075, section 3)."""

import jax
import jax.numpy as jnp
import numpy as np

from fpsset.ops.masking import widen

# Rows of the right side and of the left side in one product on the host; OpenBLAS takes threads above 2^18
# multiply-adds.
_SLICE, _COLUMNS = 4096, 64


def norm_weight(norms: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """n^gamma, with a finite gradient everywhere.

    A face of norm 0 weighs 0, or 1 when gamma is exactly 0, as 0^gamma does for gamma >= 0.

    Args:
      norms: [*B, N], >= 0.
      gamma: scalar; 0 ignores quality, larger values favour it.

    Returns:
      [*B, N] float32.
    """
    (norms,) = widen(norms)
    gamma = jnp.asarray(gamma, norms.dtype)
    positive = norms > 0
    power = jnp.exp(gamma * jnp.log(jnp.where(positive, norms, 1.0)))
    return jnp.where(positive, power, jnp.where(gamma == 0, 1.0, 0.0))


def cosine_distance(embeddings: jax.Array, center: jax.Array) -> jax.Array:
    """(1 - cos) / 2 of every face of a set to one center, accumulated in float32.

    For unit rows that is |u - c|^2 / 4, which loses no digits where faces are nearly the same.

    Args:
      embeddings: [*B, N, D] unit rows.
      center: [*B, D] unit.

    Returns:
      [*B, N] float32 in [0, 1] up to rounding; exactly 0 where a row is the center.
    """
    # Not a matrix product: one that blocks or rounds rows differently would break ties by chance,
    # and the work is bound by reading the embeddings once either way.
    embeddings, center = widen(embeddings, center)
    squared = jnp.sum(jnp.square(embeddings - center[..., None, :]), axis=-1)
    # To the precision it has: a fence, without which XLA's CPU compiler fuses what follows into the
    # sum and loses the sum's vector code, and with it six parts in seven of the speed.
    precision = jnp.finfo(squared.dtype)
    return jax.lax.reduce_precision(squared, precision.nexp, precision.nmant) / 4.0


def norm_weighted_distance(
    embeddings: jax.Array, norms: jax.Array, center: jax.Array, gamma: jax.Array | float
) -> jax.Array:
    """d(i, s) = n_i^gamma (1 - cos(u_i, u_s)) / 2 of every face i to one center s.

    Args:
      embeddings: [*B, N, D] unit rows u_i.
      norms: [*B, N], >= 0.
      center: [*B, D] unit, u_s.
      gamma: scalar.

    Returns:
      [*B, N] float32.
    """
    return norm_weight(norms, gamma) * cosine_distance(embeddings, center)


def cosines(left: jax.Array, right: jax.Array) -> jax.Array:
    """Cosines of all pairs of unit rows: [a, D], [b, D] -> [a, b], products in full float32.

    Where faces are nearly the same and their distance matters, see `cosine_distance`.
    """
    return jnp.einsum("ad,bd->ab", left, right, precision=jax.lax.Precision.HIGHEST)


def cosines_on_host(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The same of NumPy arrays, in products so small that BLAS keeps them on one thread.

    BLAS threads spin while they wait for each other: where other programs need the cores too, two threads
    take fifty times as long as one.
    """
    step = max(1, _SLICE // right.shape[1])
    whole = len(right) // step * step
    out = np.empty((len(right), len(left)), np.float32)
    for start in range(0, len(left), _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        part = left[columns].T
        slices = right[:whole].reshape(-1, step, right.shape[1]) @ part
        out[:whole, columns] = slices.reshape(whole, part.shape[1])
        out[whole:, columns] = right[whole:] @ part
    return out.T
