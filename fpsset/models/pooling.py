"""The plain ways to pool a set, behind the interface of FaceCoresetNet: sums of c_i u_i, normalised."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from fpsset.face_set import FaceSet
from fpsset.models.descriptor import SetDescriptor
from fpsset.ops.masking import count_valid, media_shares, normalize, zero_padding
from fpsset.ops.sampling import farthest_point_sampling

Coefficients = Callable[[FaceSet], jax.Array]


def _mean_over_faces(weights: jax.Array, mask: jax.Array) -> jax.Array:
    """Weights [*B, N] -> weights / number of real faces, 0 on padding."""
    count = jnp.maximum(count_valid(mask), 1)[..., None]
    return zero_padding(weights, mask).astype(jnp.float32) / count


def mean(face_set: FaceSet) -> jax.Array:
    """1 / N: the mean of the unit embeddings u_i."""
    return _mean_over_faces(jnp.ones_like(face_set.norms), face_set.mask)


def norm_weighted(face_set: FaceSet) -> jax.Array:
    """n_i / N: the mean of the features n_i u_i."""
    return _mean_over_faces(face_set.norms, face_set.mask)


def media_mean(face_set: FaceSet) -> jax.Array:
    """The mean over media of each medium's mean n_i u_i, as the IJB protocols pool.

    Where `face_set.media_size` is None every face is its own medium.
    """
    if face_set.media_size is None:
        return norm_weighted(face_set)
    shares = media_shares(face_set.media_size, face_set.mask)
    media = jnp.sum(shares, axis=-1, keepdims=True)
    return zero_padding(face_set.norms, face_set.mask).astype(jnp.float32) * shares / jnp.maximum(media, 1.0)


@dataclasses.dataclass(frozen=True)
class CoresetMean:
    """The mean n_i u_i of a coreset picked by farthest-point sampling, nothing learned.

    Attributes:
      size: K.
      gamma: exponent of the norm in the metric.
    """

    size: int = 3
    gamma: float = 0.35

    def __call__(self, face_set: FaceSet) -> jax.Array:
        """n_i / min(N, K) on the picks."""
        picks = farthest_point_sampling(
            face_set.embeddings, face_set.norms, face_set.mask, size=self.size, gamma=self.gamma
        )
        picked = jnp.sum(jax.nn.one_hot(picks, face_set.mask.shape[-1]), axis=-2)
        return _mean_over_faces(face_set.norms, picked > 0)


class Pooling(nn.Module):
    """Pools by fixed coefficients: descriptor = normalize(sum_i c_i u_i). Holds no parameters.

    Attributes:
      coefficients: FaceSet [*B, N] -> [*B, N] float32, 0 on padding.
    """

    coefficients: Coefficients

    @nn.compact
    def __call__(self, face_set: FaceSet, *, train: bool = False) -> SetDescriptor:
        """Same interface as FaceCoresetNet; `train` changes nothing."""
        del train
        weights = self.coefficients(face_set)
        embeddings = zero_padding(face_set.embeddings, face_set.mask)
        total = jnp.einsum(
            "...n,...nd->...d",
            weights,
            embeddings.astype(jnp.float32),
            precision=jax.lax.Precision.HIGHEST,
        )
        return SetDescriptor(*normalize(total))


class PlainCoreset(nn.Module):
    """Picks by farthest-point sampling with a fixed gamma; the descriptor is the mean n_i u_i of all faces.

    What FaceCoresetNet does before anything is learned: its interface, its 'attention' for explanations
    (n_i / sum n, whichever the pick), and no parameter but gamma.

    Attributes:
      coreset_size: K.
      gamma: exponent of the norm in the metric.
    """

    coreset_size: int = 3
    gamma: float = 0.35

    @nn.compact
    def __call__(self, face_set: FaceSet, *, train: bool = False) -> SetDescriptor:
        """Same interface as FaceCoresetNet; `train` changes nothing."""
        out = Pooling(norm_weighted)(face_set, train=train)
        gamma = self.param("gamma", nn.initializers.constant(self.gamma), ())
        picks = farthest_point_sampling(
            face_set.embeddings, face_set.norms, face_set.mask, self.coreset_size, gamma
        )
        weights = norm_weighted(face_set)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        shares = jnp.where(total > 0, weights / jnp.where(total > 0, total, 1.0), 0.0)
        shape = (*shares.shape[:-1], 1, self.coreset_size, shares.shape[-1])
        self.sow("intermediates", "attention", jnp.broadcast_to(shares[..., None, None, :], shape))
        return out.replace(coreset_indices=picks, coreset_mask=picks >= 0)


def baselines(size: int = 3, gamma: float = 0.35) -> dict[str, Pooling]:
    """The four baselines by name; `size` and `gamma` are those of 'fps'."""
    return {
        "mean": Pooling(mean),
        "norm_weighted": Pooling(norm_weighted),
        "media_mean": Pooling(media_mean),
        "fps": Pooling(CoresetMean(size, gamma)),
    }
