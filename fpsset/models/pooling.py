"""Pooling baselines with FaceCoresetNet's interface: descriptors that are normalised sums of c_i u_i."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from fpsset.face_set import FaceSet, SetDescriptor
from fpsset.models.selector import Coreset
from fpsset.models.set_model import PoolingModel
from fpsset.ops.attention import AttentionSums
from fpsset.ops.masking import count_valid, normalize, zero_padding
from fpsset.ops.media import media_shares, media_softmax
from fpsset.ops.metric import DEFAULT_GAMMA
from fpsset.ops.precision import einsum, matmul
from fpsset.ops.quality import log_norms
from fpsset.ops.sampling import farthest_point_sampling

# What `PlainCoreset` computes. Those of `baselines` by the same names need no picks.
PLAIN_POOLINGS = ("mean", "norm_weighted", "media_mean", "fps")
Coefficients = Callable[[FaceSet], jax.Array]


def _mean_over_faces(weights: jax.Array, mask: jax.Array) -> jax.Array:
    """Weights [*B, N] divided by the number of faces, 0 on padding: [*B, N] float32."""
    count = jnp.maximum(count_valid(mask), 1)[..., None]
    return zero_padding(weights, mask).astype(jnp.float32) / count


def mean(face_set: FaceSet) -> jax.Array:
    """c_i = 1 / N: the mean of the unit embeddings u_i."""
    return _mean_over_faces(jnp.ones_like(face_set.norms), face_set.mask)


def norm_weighted(face_set: FaceSet) -> jax.Array:
    """c_i = n_i / N: the mean of the features n_i u_i."""
    return _mean_over_faces(face_set.norms, face_set.mask)


def media_mean(face_set: FaceSet) -> jax.Array:
    """The mean over media of each medium's mean of n_i u_i, as in the IJB protocols.

    If `face_set.media_size` is None, every face is its own medium.
    """
    if face_set.media_size is None:
        return norm_weighted(face_set)
    shares = media_shares(face_set.media_size, face_set.mask)
    media = jnp.sum(shares, axis=-1, keepdims=True)
    return zero_padding(face_set.norms, face_set.mask).astype(jnp.float32) * shares / jnp.maximum(media, 1.0)


@dataclasses.dataclass(frozen=True)
class CoresetMean:
    """The mean of n_i u_i over a coreset picked by farthest-point sampling; nothing is learned.

    Attributes:
      size: K.
      gamma: exponent of the norm in the metric.
    """

    size: int = 3
    gamma: float = DEFAULT_GAMMA

    def __call__(self, face_set: FaceSet) -> jax.Array:
        """c_i = n_i / min(N, K) for picks, 0 for other faces."""
        picks = farthest_point_sampling(
            face_set.embeddings, face_set.norms, face_set.mask, size=self.size, gamma=self.gamma
        )
        picked = jnp.sum(jax.nn.one_hot(picks, face_set.mask.shape[-1]), axis=-2)
        return _mean_over_faces(face_set.norms, picked > 0)


class Pooling(nn.Module):
    """Pools with fixed coefficients: descriptor = normalize(sum_i c_i u_i). Has no parameters.

    Attributes:
      coefficients: maps a FaceSet [*B, N] to c_i, [*B, N] float32, 0 on padding.
    """

    coefficients: Coefficients

    @nn.compact
    def __call__(self, face_set: FaceSet, *, train: bool = False) -> SetDescriptor:
        """Same interface as FaceCoresetNet; `train` changes nothing."""
        del train
        face_set = face_set.checked()
        return SetDescriptor(*normalize(_weighted_sum(self.coefficients(face_set), face_set)))


class PlainCoreset(PoolingModel):
    """FaceCoresetNet with nothing learned: farthest-point picks, and a plain pooling as the descriptor.

    The only parameter is gamma. Every pick attends to face i in proportion to its weight in the pooling.

    Attributes:
      pooling: a name of `PLAIN_POOLINGS`; 'norm_weighted' is the mean of n_i u_i.
    """

    picks_ask: ClassVar[bool] = False
    pooling: str = "norm_weighted"

    def queries(self, coreset: Coreset) -> jax.Array:
        """See `SetModel`; R = 1, and the values do not matter."""
        return coreset.features[..., :1, :]

    def look(self, queries: jax.Array, face_set: FaceSet, axis_name: str | None = None) -> AttentionSums:
        """See `SetModel`; `mass` is the number of faces or media, `values` the sum of weights times u."""
        weights, shares = self._weights(face_set)
        sums = _weighted_sum(weights, face_set)[..., None, :]
        zeros = jnp.zeros_like(queries[..., 0])
        total, faces = (jnp.sum(array, axis=-1, dtype=jnp.float32)[..., None] for array in (weights, shares))
        return AttentionSums(zeros, total + zeros, faces + zeros, sums)

    def conclude(self, coreset: Coreset, sums: AttentionSums) -> SetDescriptor:
        """See `SetModel`."""
        if self.pooling == "fps":
            picked = jnp.maximum(count_valid(coreset.mask), 1)[..., None]
            return SetDescriptor(*normalize(jnp.sum(coreset.features, axis=-2) / picked), *coreset)
        mean = sums.values[..., 0, :] / jnp.maximum(sums.mass, 1.0)
        return SetDescriptor(*normalize(mean), *coreset)

    def with_attention(self, face_set: FaceSet) -> tuple[SetDescriptor, jax.Array]:
        """See `SetModel`; H = 1."""
        face_set, out = face_set.checked(), self(face_set)
        weights, _ = self._weights(face_set)
        if self.pooling == "fps":
            weights *= jnp.sum(jax.nn.one_hot(out.coreset_indices, weights.shape[-1]), axis=-2)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        shares = jnp.where(total > 0, weights / jnp.where(total > 0, total, 1.0), 0.0)
        shape = (*shares.shape[:-1], 1, self.coreset_size, shares.shape[-1])
        return out, jnp.broadcast_to(shares[..., None, None, :], shape)

    def _weights(self, face_set: FaceSet) -> tuple[jax.Array, jax.Array]:
        """Of each slot: ([*B, N] its weight in the sum, [*B, N] how many faces or media it stands for)."""
        mask = face_set.mask
        shares = mask.astype(jnp.float32)
        if self.pooling == "media_mean" and face_set.media_size is not None:
            shares = media_shares(face_set.media_size, mask)
        if face_set.multiplicity is not None:
            shares = shares * zero_padding(face_set.multiplicity, mask)
        norms = 1.0 if self.pooling == "mean" else zero_padding(face_set.norms, mask).astype(jnp.float32)
        return norms * shares, shares


class WhitenedMedia(PoolingModel):
    """Whitened means of media, a plain pooling with fitted settings.

    Faces are weighted by n^p within each medium, media count alike, and the sum is multiplied by S^(-1/2),
    S the scatter of training faces around their person. Where media are not known the set is one medium.
    `fpsset.training.closed_form.fit_whitened` fits p and S.

    Attributes:
      ignores_norms: weigh all faces of a medium alike, and pick as if all norms were 1.
    """

    picks_ask: ClassVar[bool] = False
    ignores_norms: bool = False

    @nn.compact
    def parameters(self, dim: int) -> tuple[jax.Array, jax.Array]:
        """(Power p, [D, D] whitening); fresh ones give the plain mean."""
        power = self.param("power", nn.initializers.zeros, ())
        return power, self.param("whitening", lambda key, shape: jnp.eye(*shape), (dim, dim))

    def queries(self, coreset: Coreset) -> jax.Array:
        """See `SetModel`; R = 1, and the values do not matter."""
        return coreset.features[..., :1, :]

    def look(self, queries: jax.Array, face_set: FaceSet, axis_name: str | None = None) -> AttentionSums:
        """See `SetModel`."""
        logs, real = self._log_weights(face_set)
        if face_set.media is None:
            largest = jnp.max(jnp.where(real, logs, -1e30), axis=-1, keepdims=True)
            weights = jnp.where(real, jnp.exp(logs - largest), 0.0)
            largest = largest[..., 0]
        else:
            weights = media_softmax(logs, face_set.media, real, axis_name)
            largest = jnp.zeros_like(weights[..., 0])
        total = jnp.sum(weights, axis=-1)
        values = _weighted_sum(weights, face_set)[..., None, :]
        return AttentionSums(largest[..., None], total[..., None], total[..., None], values)

    def conclude(self, coreset: Coreset, sums: AttentionSums) -> SetDescriptor:
        """See `SetModel`."""
        _, whitening = self.parameters(coreset.features.shape[-1])
        mean = sums.values[..., 0, :] / jnp.where(sums.total > 0, sums.total, 1.0)
        return SetDescriptor(*normalize(matmul(mean, whitening)), *coreset)

    def with_attention(self, face_set: FaceSet) -> tuple[SetDescriptor, jax.Array]:
        """See `SetModel`; H = 1."""
        face_set = self.seen(face_set.checked())
        logs, real = self._log_weights(face_set)
        media = jnp.zeros(real.shape, jnp.int32) if face_set.media is None else face_set.media
        weights = media_softmax(logs, media, real)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        weights = weights / jnp.where(total > 0, total, 1.0)
        shape = (*weights.shape[:-1], 1, self.coreset_size, weights.shape[-1])
        return self(face_set), jnp.broadcast_to(weights[..., None, None, :], shape)

    def _log_weights(self, face_set: FaceSet) -> tuple[jax.Array, jax.Array]:
        """([*B, N] p log n plus the logarithm of how often a slot counts, [*B, N] bool which slots count)."""
        power, _ = self.parameters(face_set.embeddings.shape[-1])
        real = face_set.mask
        norms = zero_padding(jnp.broadcast_to(self.seen(face_set).norms, real.shape), real)
        logs = power * log_norms(norms)
        if face_set.multiplicity is None:
            return logs, real
        count = zero_padding(jnp.broadcast_to(face_set.multiplicity, real.shape), real)
        return logs + jnp.log(jnp.where(count > 0, count, 1.0)), real & (count > 0)


def _weighted_sum(weights: jax.Array, face_set: FaceSet) -> jax.Array:
    """sum_i w_i u_i in full float32 precision: weights [*B, N] -> [*B, D] float32."""
    embeddings = zero_padding(face_set.embeddings, face_set.mask).astype(jnp.float32)
    return einsum("...n,...nd->...d", weights, embeddings)


def baselines(size: int = 3, gamma: float = DEFAULT_GAMMA) -> dict[str, Pooling]:
    """The four pooling baselines by name; `size` and `gamma` apply to 'fps', see `CoresetMean`."""
    return {
        "mean": Pooling(mean),
        "norm_weighted": Pooling(norm_weighted),
        "media_mean": Pooling(media_mean),
        "fps": Pooling(CoresetMean(size, gamma)),
    }
