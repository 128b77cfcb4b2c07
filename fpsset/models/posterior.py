"""The default set model: a posterior mean of the person, fitted in closed form, and a coreset beside it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import initializers as init

from fpsset.face_set import FaceSet, SetDescriptor
from fpsset.models.selector import Coreset
from fpsset.models.set_model import PoolingModel
from fpsset.ops.attention import AttentionSums
from fpsset.ops.masking import normalize, zero_padding
from fpsset.ops.media import media_softmax, media_sum
from fpsset.ops.posterior import (
    expected_cosine,
    face_precision,
    near_copies,
    posterior_mean,
)
from fpsset.ops.precision import einsum
from fpsset.ops.quality import log_norms


class PosteriorParams(NamedTuple):
    """The parameters, see `fpsset.ops.posterior`; `fpsset.training.closed_form` fits them."""

    direction: jax.Array  # [D] a, and
    power: jax.Array  # [] p, and
    bias: jax.Array  # [] k of the quality a . n u + p log n + k, the expected cosine
    sharpness: jax.Array  # [] by which log weights differ for a difference of 1 in quality
    drift: jax.Array  # [2, D] d_0, d_1
    basis: jax.Array  # [D, D]
    variance: jax.Array  # [D] of people in the basis
    noise: jax.Array  # []
    media_power: jax.Array  # [] of a medium's precision, by which media weigh
    copies: jax.Array  # [] cosine from which faces of unknown media are taken for copies


class PosteriorPooling(PoolingModel):
    """The posterior mean of the person that a set shows.

    Every face gets a quality, the cosine to its person that its norm and direction lead one to expect.
    Where media are known, the faces of a medium share one vote by a softmax of quality; where not,
    near-copies of a pick share one. The vote is taken for faces less the drift that poor ones have in
    common, and is shrunk towards what people have in common where the faces' precision is low.

    The picks are those of farthest-point sampling under the quality-aware metric: they say which faces
    stand for the set, and which crowds count as one face.

    Attributes:
      ignores_norms: judge quality by the direction of embeddings alone, and pick as if all norms were 1, for
        backbones whose norms say nothing.
    """

    gamma_init: float = 2.0
    ignores_norms: bool = False

    @nn.compact
    def parameters(self, dim: int) -> PosteriorParams:
        """The parameters for embeddings of width `dim`; fresh ones weigh all faces alike."""
        return PosteriorParams(
            direction=self.param("quality_direction", init.zeros, (dim,)),
            power=self.param("quality_power", init.zeros, ()),
            bias=self.param("quality_bias", init.constant(0.5), ()),
            sharpness=self.param("sharpness", init.constant(10.0), ()),
            drift=self.param("drift", init.zeros, (2, dim)),
            basis=self.param("basis", lambda key, shape: jnp.eye(*shape), (dim, dim)),
            variance=self.param("person_variance", init.ones, (dim,)),
            noise=self.param("noise", init.zeros, ()),
            media_power=self.param("media_power", init.zeros, ()),
            copies=self.param("copy_cosine", init.ones, ()),
        )

    def queries(self, coreset: Coreset) -> jax.Array:
        """See `SetModel`; the picks' directions, zero for picks that are not valid."""
        return normalize(coreset.features)[0]

    def look(self, queries: jax.Array, face_set: FaceSet, axis_name: str | None = None) -> AttentionSums:
        """See `SetModel`; one row where media are known, else a row for the copies of each pick and the rest.

        Values hold the sums of the faces' D channels, of their quality, of their precision, and of copies.
        """
        params = self.parameters(face_set.embeddings.shape[-1])
        faces, cosine, rows, precisions, copies = self._weigh(params, queries, face_set, axis_name)
        channels = [
            einsum("...rn,...nd->...rd", rows, faces),
            jnp.sum(rows * cosine[..., None, :], axis=-1)[..., None],
            jnp.sum(precisions, axis=-1)[..., None],
            jnp.sum(copies, axis=-1)[..., None],
        ]
        total = jnp.sum(rows, axis=-1)
        return AttentionSums(jnp.zeros_like(total), total, total, jnp.concatenate(channels, axis=-1))

    def conclude(self, coreset: Coreset, sums: AttentionSums) -> SetDescriptor:
        """See `SetModel`."""
        dim = coreset.features.shape[-1]
        params = self.parameters(dim)
        faces, (cosine, precision, _) = sums.values[..., :dim], jnp.moveaxis(sums.values[..., dim:], -1, 0)
        shares = self._row_shares(sums)
        total, cosine, precision = (jnp.sum(shares * x, axis=-1) for x in (sums.total, cosine, precision))
        weight = jnp.where(total > 0, total, 1.0)[..., None]
        seen = jnp.sum(shares[..., None] * faces, axis=-2)
        constant, slope = (_lift(part, seen) for part in params.drift)
        drift = total[..., None] * constant + cosine[..., None] * slope
        if sums.values.shape[-2] > 1:  # media are not known: the whole set counts as one
            precision = precision / weight[..., 0]
        person = posterior_mean(
            (seen - drift) / weight, precision, params.basis, params.variance, params.noise
        )
        return SetDescriptor(*normalize(person), *coreset)

    def with_attention(self, face_set: FaceSet) -> tuple[SetDescriptor, jax.Array]:
        """See `SetModel`; H = 1, and every pick attends by the faces' weights in the mean."""
        face_set = self.seen(face_set.checked())
        coreset = self.selector(face_set)
        queries = self.queries(coreset)
        sums = self.look(queries, face_set)
        params = self.parameters(face_set.embeddings.shape[-1])
        rows = self._weigh(params, queries, face_set)[2]
        weights = jnp.sum(rows * self._row_shares(sums)[..., None], axis=-2)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        weights = weights / jnp.where(total > 0, total, 1.0)
        shape = (*weights.shape[:-1], 1, self.coreset_size, weights.shape[-1])
        return self.conclude(coreset, sums), jnp.broadcast_to(weights[..., None, None, :], shape)

    def _weigh(self, params: PosteriorParams, queries: jax.Array, face_set: FaceSet, axis_name=None):
        """([*B, N, D] faces, [*B, N] quality, and in each row [*B, R, N] weights, precisions and counts).

        The last row holds what is no copy of a pick, all of it where media are known. All are 0 on padding.
        """
        mask = face_set.mask
        faces = zero_padding(face_set.embeddings, mask).astype(jnp.float32)
        norms = zero_padding(self.seen(face_set).norms, mask).astype(jnp.float32)
        count = mask.astype(jnp.float32)
        if face_set.multiplicity is not None:
            count = zero_padding(face_set.multiplicity, mask).astype(jnp.float32)
        along = einsum("...nd,d->...n", faces, params.direction)
        cosine = expected_cosine(norms * along + params.power * log_norms(norms), params.bias)
        logs = params.sharpness * (cosine - 0.5)
        if face_set.media is not None:
            logs = logs + jnp.log(jnp.where(count > 0, count, 1.0))
            media = face_set.media, mask & (count > 0), axis_name
            weights = media_softmax(logs, *media)
            precisions = weights * face_precision(cosine)
            total = media_sum(precisions, *media)
            votes = weights * jnp.where(total > 0, total, 1.0) ** params.media_power
            return faces, cosine, *(array[..., None, :] for array in (votes, precisions, count))
        cosines = einsum("...kd,...nd->...kn", queries, faces)
        copies = near_copies(cosines, params.copies)
        shares = jnp.concatenate([copies, 1 - jnp.sum(copies, axis=-2, keepdims=True)], axis=-2)
        weights = shares * (jnp.exp(logs) * count)[..., None, :]
        return (
            faces,
            cosine,
            weights,
            weights * face_precision(cosine)[..., None, :],
            shares * count[..., None, :],
        )

    def _row_shares(self, sums: AttentionSums) -> jax.Array:
        """[*B, R], what each row counts: the copies of a pick as one face, all else as it is."""
        copies = sums.values[..., -1]
        rest = _lift(jnp.arange(copies.shape[-1]) == copies.shape[-1] - 1, copies)
        return jnp.where(rest, 1.0, 1 / jnp.maximum(copies, 1.0))


def _lift(array: jax.Array, like: jax.Array) -> jax.Array:
    return array.reshape((1,) * (like.ndim - array.ndim) + array.shape)
