"""The decoder: the coreset attends to itself, then to the whole set, and becomes one descriptor."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import initializers as init

from fpsset.face_set import FaceSet, SetDescriptor
from fpsset.models.selector import Coreset, features_of
from fpsset.ops.attention import (
    AttentionParams,
    AttentionSums,
    Block,
    Dropout,
    absorb,
    attention_output,
    attention_sums,
    attention_weights,
)
from fpsset.ops.direct_attention import attention_for_platform, self_attention
from fpsset.ops.fused_pass import PassParams
from fpsset.ops.masking import normalize, safe_length, zero_padding
from fpsset.ops.media import media_shares
from fpsset.ops.norm_encoding import EPSILON, normalized_norm_encoding
from fpsset.ops.quality import face_quality, quality_shares


class NormEncoding(nn.Module):
    """E(n): sinusoids of the norm followed by a LayerNorm, added to both queries and keys."""

    @nn.compact
    def __call__(self, norms: jax.Array, dim: int) -> jax.Array:
        """[*B] -> [*B, dim] float32."""
        scale = self.param("norm_encoding_scale", init.ones, (dim,))
        bias = self.param("norm_encoding_bias", init.zeros, (dim,))
        return normalized_norm_encoding(norms, scale, bias)


class FaceQuality(nn.Module):
    """The learned quality of faces, a log weight: a . (n u) + p log n."""

    @nn.compact
    def __call__(self, features: jax.Array, norms: jax.Array) -> jax.Array:
        """Features n u [*B, D] and norms n [*B] -> [*B] float32."""
        direction = self.param("quality_direction", init.zeros, features.shape[-1:])
        power = self.param("quality_power", init.zeros, ())
        return face_quality(features, norms, direction, power)


class Projections(nn.Module):
    """The parameters of one multi-head attention, with its matrices cast to `dtype`."""

    num_heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, dim: int) -> AttentionParams:
        """The projections over `dim` features."""
        split = (dim, self.num_heads, dim // self.num_heads)
        # PyTorch's initial ranges: Xavier for a joint [3D, D] input projection, and its default linear layer.
        projection = init.variance_scaling(0.5, "fan_in", "uniform", in_axis=0, out_axis=(1, 2))
        output = init.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=(0, 1), out_axis=2)
        params = AttentionParams(
            query=self.param("query", projection, split),
            query_bias=self.param("query_bias", init.zeros, split[1:]),
            key=self.param("key", projection, split),
            value=self.param("value", projection, split),
            value_bias=self.param("value_bias", init.zeros, split[1:]),
            out=self.param("out", output, (*split[1:], dim)),
            out_bias=self.param("out_bias", init.zeros, (dim,)),
        )
        kernels = ("query", "key", "value", "out")
        return params._replace(**{name: getattr(params, name).astype(self.dtype) for name in kernels})


class CoresetDecoder(nn.Module):
    """Refines a coreset by attention to the whole set (arXiv 2308.14075, section 3).

    With S the features of the picks and F those of all faces:

      q0 = S + E(|S|)
      q1 = LN(q0 + SelfAttention(q0))
      o = LN(S + Attention(q1, F + E(n), F))
      descriptor = normalize(mean(S + o))

    The work is split into `queries`, `look` for each part of the faces, and `conclude`, so that the faces can
    arrive in parts.

    Attributes:
      num_heads: heads of both attentions; must divide D.
      dropout_rate: dropout of attention weights and of each branch, in training.
      quality: weight faces by a learned quality, both in the attention and in the mean over picks. False, as
        published, weights them equally.
      by_media: let all faces of one medium count as one face in the attention, if media are known.
      dtype: dtype of products with parameters, float32 or bfloat16; parameters and all else are float32.
    """

    num_heads: int = 8
    dropout_rate: float = 0.1
    quality: bool = False
    by_media: bool = False
    dtype: jnp.dtype = jnp.float32

    def setup(self):  # noqa: D102
        self.encode = NormEncoding()
        nn.share_scope(self, self.encode)
        if self.quality:
            self.quality_of = FaceQuality()
            nn.share_scope(self, self.quality_of)
        self.self_attention = Projections(self.num_heads, self.dtype)
        self.query_norm = nn.LayerNorm(epsilon=EPSILON)
        self.set_attention = Projections(self.num_heads, self.dtype)
        self.output_norm = nn.LayerNorm(epsilon=EPSILON)
        # Under the names that flax gave them in 0.1: runs begun there go on with the same draws.
        self.Dropout_0, self.Dropout_1 = (nn.Dropout(self.dropout_rate) for _ in range(2))

    def __call__(self, coreset: Coreset, face_set: FaceSet, train: bool = False) -> SetDescriptor:
        """The descriptor of each set, from its coreset and all its faces."""
        query = self._query(coreset, train)
        faces = face_set.embeddings, face_set.norms
        params, weight = self.set_attention(query.shape[-1]), self.weigh(face_set)
        # Parameters are made here, not within a branch that only one platform takes.
        if self.is_initializing():
            self._block(face_set.embeddings[..., :1, :], face_set.norms[..., :1])
        dropout = self._dropout(train)
        seen = attention_for_platform(query, faces, weight, self._block, params, dropout)
        return self._refined(coreset, seen, train)

    def queries(self, coreset: Coreset, train: bool = False) -> jax.Array:
        """The picks' queries with the key projection absorbed: [*B, H K, D], see `ops.attention`."""
        query = self._query(coreset, train)
        return absorb(query, self.set_attention(query.shape[-1]))

    def _query(self, coreset: Coreset, train: bool) -> jax.Array:
        core, dim = coreset.features, coreset.features.shape[-1]
        query = core + self.encode(safe_length(core), dim)
        mixed = self_attention(query, coreset.mask, self.self_attention(dim), self._dropout(train))
        return self.query_norm(query + self.Dropout_0(mixed, deterministic=not train))

    def look(self, queries: jax.Array, face_set: FaceSet, train: bool = False) -> AttentionSums:
        """The attention sums over some faces of each set; sums over several parts can be merged."""
        faces = face_set.embeddings, face_set.norms
        return attention_sums(queries, faces, self.weigh(face_set), self._block, self._dropout(train))

    def conclude(self, coreset: Coreset, sums: AttentionSums, train: bool = False) -> SetDescriptor:
        """The descriptor from the sums over all faces."""
        seen = attention_output(sums, self.set_attention(coreset.features.shape[-1]))
        return self._refined(coreset, seen, train)

    def _refined(self, coreset: Coreset, seen: jax.Array, train: bool) -> SetDescriptor:
        indices, valid, core = coreset
        refined = self.output_norm(core + self.Dropout_1(seen, deterministic=not train))
        quality = self.quality_of(core, safe_length(core)) if self.quality else jnp.zeros(valid.shape)
        shares = quality_shares(quality, valid)
        mean = jnp.sum(shares[..., None] * zero_padding(core + refined, valid), axis=-2)
        return SetDescriptor(*normalize(mean), indices, valid, core)

    def pass_params(self, gamma: jax.Array) -> PassParams:
        """The parameters for `ops.fused_pass`, given the metric's gamma."""
        own = self.variables["params"]
        dim = len(own["norm_encoding_scale"])
        pairs = [(own[name]["scale"], own[name]["bias"]) for name in ("query_norm", "output_norm")]
        encoding = own["norm_encoding_scale"], own["norm_encoding_bias"]
        within, beyond = self.self_attention(dim), self.set_attention(dim)
        quality = (own["quality_direction"], own["quality_power"]) if self.quality else None
        return PassParams(gamma, encoding, within, pairs[0], beyond, pairs[1], quality)

    def attention(self, coreset: Coreset, face_set: FaceSet) -> jax.Array:
        """How much each pick attends to each face: [*B, H, K, N] float32 rows that sum to 1."""
        faces = face_set.embeddings, face_set.norms
        weights = attention_weights(self.queries(coreset), faces, self.weigh(face_set), self._block)
        split = (*weights.shape[:-2], self.num_heads, -1, weights.shape[-1])
        return weights.reshape(split)

    def _block(self, embeddings: jax.Array, norms: jax.Array) -> Block:
        features = features_of(embeddings, norms)
        keys = features + self.encode(norms, embeddings.shape[-1])
        return Block(keys, features, self.quality_of(features, norms) if self.quality else None)

    def weigh(self, face_set: FaceSet) -> jax.Array:
        """How many faces each slot counts as: [*B, N] bool (the mask) or float32."""
        mask, weight = face_set.mask, face_set.mask
        if face_set.multiplicity is not None:
            weight = zero_padding(face_set.multiplicity, mask)
        if self.by_media and face_set.media_size is not None:
            weight = weight * media_shares(face_set.media_size, mask)
        return weight

    def _dropout(self, train: bool) -> Dropout | None:
        rate = self.dropout_rate if train else 0.0
        return Dropout(self.make_rng("dropout"), rate) if rate else None
