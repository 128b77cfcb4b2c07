"""Peers of the set model: plain poolings, other ways to pick a coreset, and other papers' aggregators."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from fpsset.face_set import FaceSet, SetDescriptor
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.models.pooling import CoresetMean, Pooling, media_mean
from fpsset.models.selector import Coreset, CoresetSelector
from fpsset.ops.masking import normalize, zero_padding
from fpsset.ops.norm_encoding import encode_norms


@dataclasses.dataclass(frozen=True)
class NormPower:
    """Weights n^p: over all faces, or within each medium and then equally over media."""

    power: float
    media: bool = False

    def __call__(self, face_set: FaceSet) -> jax.Array:
        """Coefficients [*B, N]."""
        weights = zero_padding(face_set.norms**self.power, face_set.mask)
        return media_mean(face_set.replace(norms=weights)) if self.media else weights


@dataclasses.dataclass(frozen=True)
class TopNorms:
    """The norm-weighted mean of the `count` faces with the largest norms."""

    count: int

    def __call__(self, face_set: FaceSet) -> jax.Array:
        """Coefficients [*B, N]."""
        norms = jnp.where(face_set.mask, face_set.norms, -1.0)
        rank = jnp.argsort(jnp.argsort(-norms, axis=-1), axis=-1)
        return zero_padding(face_set.norms, face_set.mask & (rank < self.count))


def poolings() -> dict[str, dict[str, Pooling]]:
    """Every kind of pooling with its candidate settings: {kind: {setting: pooling}}."""
    powers, sizes = (1, 2, 3, 5, 8, 12, 16), (1, 2, 3, 5, 8)
    return {
        "mean": {"": Pooling(NormPower(0))},
        "norm^p": {f"p {p}": Pooling(NormPower(p)) for p in powers},
        "media, norm^p": {f"p {p}": Pooling(NormPower(p, media=True)) for p in powers},
        "top q norms": {f"q {q}": Pooling(TopNorms(q)) for q in sizes},
        "FPS": {f"K {k}": Pooling(CoresetMean(k, 0.0)) for k in sizes},
        "norm FPS": {
            f"K {k}, gamma {g}": Pooling(CoresetMean(k, g)) for k in sizes for g in (0.35, 1.0, 2.0)
        },
    }


def noise_of(embeddings: jax.Array, norms: jax.Array) -> jax.Array:
    """A pseudo-random score in [0, 1) of each face alone, so that picks do not depend on the set's order."""
    return jnp.mod(jnp.abs(embeddings.sum(-1)) * 1e4 + norms * 1e3, 1.0)


def norm_of(embeddings: jax.Array, norms: jax.Array) -> jax.Array:
    """The norm of each face."""
    del embeddings
    return norms


class SelectorByScore(CoresetSelector):
    """Picks the faces of the largest scores, whatever their distances.

    Attributes:
      score: maps embeddings [*B, N, D] and norms [*B, N] to scores [*B, N].
    """

    score: Callable = norm_of

    def __call__(self, face_set: FaceSet, axis_name: str | None = None) -> Coreset:
        """The same picks for inference and training."""
        del axis_name
        mask = face_set.mask
        faces, norms = zero_padding(face_set.embeddings, mask), zero_padding(face_set.norms, mask)
        size = min(self.size, mask.shape[-1])
        order = jax.lax.top_k(jnp.where(mask, self.score(faces, norms), -jnp.inf), size)[1]
        order = jnp.pad(order, [(0, 0)] * (order.ndim - 1) + [(0, self.size - size)])
        valid = jnp.arange(self.size) < mask.sum(-1, keepdims=True)
        core = jnp.take_along_axis(faces * norms[..., None], order[..., None], axis=-2)
        return Coreset(jnp.where(valid, order, -1).astype(jnp.int32), valid, zero_padding(core, valid))

    def sample(self, face_set: FaceSet, noise, temperature=1.0, score_scale=1.0) -> Coreset:
        """See `__call__`."""
        del noise, temperature, score_scale
        return self(face_set)


class PicksByScore(FaceCoresetNet):
    """FaceCoresetNet with a `SelectorByScore`.

    Attributes:
      score: see there.
    """

    score: Callable = norm_of

    def make_selector(self) -> CoresetSelector:
        """See the base."""
        return SelectorByScore(self.coreset_size, self.gamma_init, self.score)


class GrowingSelector(CoresetSelector):
    """Picks more faces of larger sets: sqrt(N), and K at the most."""

    def __call__(self, face_set: FaceSet, axis_name: str | None = None) -> Coreset:
        """Picks for inference."""
        return self._fewer(super().__call__(face_set, axis_name), face_set)

    def sample(self, face_set: FaceSet, *args, **options) -> Coreset:
        """Picks for training."""
        return self._fewer(super().sample(face_set, *args, **options), face_set)

    def _fewer(self, coreset: Coreset, face_set: FaceSet) -> Coreset:
        wanted = jnp.ceil(jnp.sqrt(face_set.mask.sum(-1, keepdims=True)))
        valid = coreset.mask & (jnp.arange(self.size) < wanted)
        return Coreset(jnp.where(valid, coreset.indices, -1), valid, zero_padding(coreset.features, valid))


class GrowingCoreset(FaceCoresetNet):
    """FaceCoresetNet with a `GrowingSelector`."""

    def make_selector(self) -> CoresetSelector:
        """See the base."""
        return GrowingSelector(self.coreset_size, self.gamma_init)


class _Peer(nn.Module):
    dtype: jnp.dtype = jnp.float32  # the training loop sets it; peers compute in float32 anyway

    @nn.compact
    def __call__(self, face_set: FaceSet, *, train: bool = False, **_) -> SetDescriptor:
        """Like FaceCoresetNet; arguments about sampling are ignored."""
        faces = zero_padding(face_set.embeddings * face_set.norms[..., None], face_set.mask)
        return SetDescriptor(*normalize(self.pool(faces, face_set)))


def _softmax(logits: jax.Array, mask: jax.Array) -> jax.Array:
    return jax.nn.softmax(jnp.where(mask, logits, -1e30), axis=-1) * mask


class Nan(_Peer):
    """Neural aggregation network (CVPR 2017): two attention blocks; the first makes the second's query."""

    def pool(self, faces, face_set):
        """Pools features [*B, N, D] into [*B, D]."""
        dim, mask = faces.shape[-1], face_set.mask
        scaled = faces / jnp.sqrt(dim)
        query = self.param("query", nn.initializers.zeros, (dim,))
        first = jnp.einsum("...n,...nd->...d", _softmax(scaled @ query, mask), faces)
        query = jnp.tanh(nn.Dense(dim, kernel_init=nn.initializers.zeros, name="transfer")(first))
        weights = _softmax(jnp.einsum("...nd,...d->...n", scaled, query), mask)
        return jnp.einsum("...n,...nd->...d", weights, faces)


class CafaceLike(_Peer):
    """Cluster and aggregate (NeurIPS 2022), without its intermediate feature maps.

    The style of a face is the encoding of its norm and a projection of its feature. Faces are softly assigned
    to learned centres by style, the features of each cluster are averaged, and a small network weighs the
    clusters per channel.

    Attributes:
      clusters: number of clusters M.
      style: width of the style vectors.
    """

    clusters: int = 4
    style: int = 64

    def pool(self, faces, face_set):
        """Pools features [*B, N, D] into [*B, D]."""
        mask, norms = face_set.mask, zero_padding(face_set.norms, face_set.mask)
        style = jnp.concatenate([nn.Dense(self.style)(faces), encode_norms(norms, self.style)], axis=-1)
        keys = nn.LayerNorm()(nn.Dense(self.style)(nn.gelu(nn.Dense(self.style)(style))))
        centers = self.param("centers", nn.initializers.normal(1.0), (self.clusters, self.style))
        shares = jax.nn.softmax(keys @ centers.T / jnp.sqrt(self.style), axis=-1)
        shares = zero_padding(shares, mask)
        mass = shares.sum(-2)
        clusters = jnp.einsum("...nm,...nd->...md", shares, faces) / jnp.maximum(mass, 1e-6)[..., None]
        styles = jnp.einsum("...nm,...ns->...ms", shares, keys) / jnp.maximum(mass, 1e-6)[..., None]
        mixed = nn.gelu(nn.Dense(self.style)(styles.reshape(*styles.shape[:-2], -1)))
        logits = nn.Dense(self.clusters * faces.shape[-1], kernel_init=nn.initializers.zeros)(mixed)
        logits = logits.reshape(*clusters.shape) + jnp.log(jnp.maximum(mass, 1e-6))[..., None]
        return jnp.sum(jax.nn.softmax(logits, axis=-2) * clusters, axis=-2)
