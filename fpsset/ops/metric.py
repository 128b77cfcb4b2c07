"""The norm-weighted cosine distance (FaceCoresetNet, arXiv 2308.14075, section 3), and plain cosines."""

import jax
import jax.numpy as jnp
import numpy as np

from fpsset.ops.masking import widen
from fpsset.ops.precision import einsum

# Exponent of the norm unless the caller gives one: where the paper's training ends, having started at 0.01.
DEFAULT_GAMMA = 0.35
# Entries of a slice of `right`, and rows of `left`, in one product on the host: 2^18 multiply-adds, above
# which OpenBLAS starts threads.
_SLICE, _COLUMNS = 4096, 64


def norm_weight(norms: jax.Array, gamma: jax.Array | float) -> jax.Array:
    """n^gamma, with a finite gradient everywhere.

    For norm 0 the result is 0, or 1 if gamma is exactly 0, which agrees with 0^gamma for gamma >= 0.

    Args:
      norms: [*B, N] float, >= 0.
      gamma: scalar; 0 ignores norms, larger values favour faces with a large norm.

    Returns:
      [*B, N] float32, >= 0.
    """
    (norms,) = widen(norms)
    gamma = jnp.asarray(gamma, norms.dtype)
    positive = norms > 0
    power = jnp.exp(gamma * jnp.log(jnp.where(positive, norms, 1.0)))
    return jnp.where(positive, power, jnp.where(gamma == 0, 1.0, 0.0))


def cosine_distance(embeddings: jax.Array, center: jax.Array) -> jax.Array:
    """(1 - cos) / 2 between every face of a set and one center, accumulated in float32.

    Computed as |u - c|^2 / 4, which is the same for unit rows and loses no digits between nearly equal faces.

    Args:
      embeddings: [*B, N, D] unit rows.
      center: [*B, D] unit vector.

    Returns:
      [*B, N] float32 in [0, 1] up to rounding; exactly 0 where a row equals the center.
    """
    # Not a matrix product, which may round equal rows differently and so break ties at random. Either way
    # the cost is that of reading the embeddings once.
    embeddings, center = widen(embeddings, center)
    squared = jnp.sum(jnp.square(embeddings - center[..., None, :]), axis=-1)
    # A no-op that acts as a fusion barrier: otherwise XLA's CPU compiler fuses later operations into the sum,
    # which is then no longer vectorised and runs seven times slower.
    precision = jnp.finfo(squared.dtype)
    return jax.lax.reduce_precision(squared, precision.nexp, precision.nmant) / 4.0


def norm_weighted_distance(
    embeddings: jax.Array, norms: jax.Array, center: jax.Array, gamma: jax.Array | float
) -> jax.Array:
    """d(i, s) = n_i^gamma (1 - cos(u_i, u_s)) / 2 between every face i and one center s.

    Not symmetric: only the norm of face i enters. (arXiv 2308.14075, section 3.)

    Args:
      embeddings: [*B, N, D] unit rows u_i.
      norms: [*B, N] float, >= 0.
      center: [*B, D] unit vector u_s.
      gamma: scalar exponent of the norm.

    Returns:
      [*B, N] float32, >= 0.
    """
    return norm_weight(norms, gamma) * cosine_distance(embeddings, center)


def cosines(left: jax.Array, right: jax.Array) -> jax.Array:
    """Cosines between all pairs of unit rows: [a, D], [b, D] -> [a, b], as exact as the operands.

    Use `cosine_distance` where small distances between nearly equal faces matter.
    """
    return einsum("ad,bd->ab", left, right)


def cosines_on_host(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """`cosines` for NumPy arrays, computed in products small enough for BLAS to stay on one thread.

    BLAS threads busy-wait for each other: on cores shared with other programs, two threads can take fifty
    times as long as one.

    Args:
      left: [a, D] float32 unit rows.
      right: [b, D] float32 unit rows.

    Returns:
      [a, b] float32.
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
