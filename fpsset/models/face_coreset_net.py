"""FaceCoresetNet (AAAI 2024, arXiv 2308.14075): a coreset of a face set, refined by the whole set."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import initializers as init

from fpsset.face_set import FaceSet
from fpsset.models.descriptor import SetDescriptor
from fpsset.ops.attention import (
    AttentionParams,
    Block,
    Dropout,
    Pooled,
    attention_weights,
    self_attention,
    set_attention,
)
from fpsset.ops.masking import count_valid, media_shares, normalize, safe_length, widen, zero_padding
from fpsset.ops.norm_encoding import normalized_norm_encoding
from fpsset.ops.quality import face_quality, quality_shares
from fpsset.ops.sampling import farthest_point_sampling, soft_farthest_point_sampling, take_faces

_EPSILON = 1e-5


class Coreset(NamedTuple):
    """The faces picked of each set."""

    indices: jax.Array  # [*B, K] int32, -1 beyond the set's size
    mask: jax.Array  # [*B, K] bool, which picks are valid
    features: jax.Array  # [*B, K, D] float32 n_i u_i, 0 where not valid


class Earlier(NamedTuple):
    """What is known of sets whose faces come a part at a time."""

    coreset: Coreset  # of all faces
    pooled: Pooled  # sums of the set attention over the parts before


class Projections(nn.Module):
    """The parameters of a multi-head attention over `dim` features, its matrices in `dtype`."""

    num_heads: int
    dim: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self) -> AttentionParams:
        """Returns them."""
        split = (self.dim, self.num_heads, self.dim // self.num_heads)
        # The ranges of a joint [3D, D] Xavier projection, and of a plain linear layer behind it.
        projection = init.variance_scaling(0.5, "fan_in", "uniform", in_axis=0, out_axis=(1, 2))
        output = init.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=(0, 1), out_axis=2)
        params = AttentionParams(
            query=self.param("query", projection, split),
            query_bias=self.param("query_bias", init.zeros, split[1:]),
            key=self.param("key", projection, split),
            value=self.param("value", projection, split),
            value_bias=self.param("value_bias", init.zeros, split[1:]),
            out=self.param("out", output, (*split[1:], self.dim)),
            out_bias=self.param("out_bias", init.zeros, (self.dim,)),
        )
        kernels = ("query", "key", "value", "out")
        return params._replace(**{name: getattr(params, name).astype(self.dtype) for name in kernels})


class FaceCoresetNet(nn.Module):
    """Picks a coreset of a set of faces and lets it attend to the whole set.

    At inference the picks are the arg max and no randomness is needed. In training they are drawn
    by straight-through Gumbel-softmax, from the rng stream 'gumbel' or from the noise given, and
    dropout draws from the stream 'dropout'. With `mutable=['intermediates']` the weights of the picks'
    attention to the set are kept there: 'attention', a tuple of one [*B, H, K, N].

    Attributes:
      coreset_size: K, faces picked.
      num_heads: heads of both attentions; divides D.
      dropout_rate: of attention weights and of each branch.
      gamma_init: start of the learned exponent of the norm in the metric.
      quality: weigh faces by a learned quality, in the attention to the set and where the picks are averaged;
        without, as published, the picks count alike.
      by_media: let a medium's faces weigh as one in the attention to the set, where a set tells its media.
      dtype: of matrix products with parameters, float32 or bfloat16; parameters and all else are float32.
    """

    coreset_size: int = 3
    num_heads: int = 8
    dropout_rate: float = 0.1
    gamma_init: float = 0.01
    quality: bool = False
    by_media: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        face_set: FaceSet,
        *,
        train: bool = False,
        noise: jax.Array | None = None,
        temperature: jax.Array | float = 1.0,
        score_scale: jax.Array | float = 1.0,
        axis_name: str | None = None,
        earlier: Earlier | None = None,
    ) -> SetDescriptor:
        """Aggregates each set.

        Args:
          face_set: sets [*B, N] of D-dimensional faces, D even and a multiple of `num_heads`.
          train: draw the picks and apply dropout.
          noise: [*B, K, N] Gumbel draws for training; from the stream 'gumbel' when None.
          temperature: of the softmax over faces, in training.
          score_scale: factor of the scores before the softmax, in training.
          axis_name: of the devices that each set's slots are split over, inside `shard_map`, at inference.
          earlier: the coreset, and the sums over the parts before this one, at inference.

        Returns:
          SetDescriptor with its coreset; of all parts so far, and with the sums, where there is `earlier`.

        Raises:
          ValueError: K < 1, or D not a multiple of `num_heads`.
        """
        embeddings, norms, mask = face_set.embeddings, face_set.norms, face_set.mask
        dim = embeddings.shape[-1]
        if dim % self.num_heads:
            raise ValueError(f"embeddings of width {dim} do not split over {self.num_heads} heads")
        gamma = self.param("gamma", init.constant(self.gamma_init), ())
        scale = self.param("norm_encoding_scale", init.ones, (dim,))
        bias = self.param("norm_encoding_bias", init.zeros, (dim,))

        if train:
            if noise is None:
                shape = (*mask.shape[:-1], self.coreset_size, mask.shape[-1])
                noise = jax.random.gumbel(self.make_rng("gumbel"), shape)
            coreset = self.draw_coreset(face_set, noise, gamma, temperature, score_scale)
        elif earlier is not None:
            coreset = earlier.coreset
        else:
            coreset = self.pick_coreset(face_set, gamma, axis_name)
        indices, valid, core = coreset

        def encode(lengths):
            return normalized_norm_encoding(lengths, scale, bias, _EPSILON)

        if self.quality:
            direction = self.param("quality_direction", init.zeros, (dim,))
            power = self.param("quality_power", init.zeros, ())

        def quality(faces, norms):
            return face_quality(faces, norms, direction, power) if self.quality else None

        def keys_values(embeddings, norms):
            faces = _features(embeddings, norms)
            return Block(faces + encode(norms), faces, quality(faces, norms))

        def layer_norm(name):
            return nn.LayerNorm(epsilon=_EPSILON, use_fast_variance=False, name=name)

        def attend(name, attention, *args, **options):
            params = Projections(self.num_heads, dim, self.dtype, name=name)()
            rate = self.dropout_rate if train else 0.0
            dropout = Dropout(self.make_rng("dropout"), rate) if rate else None
            if attention is set_attention and self.is_mutable_collection("intermediates"):
                self.sow("intermediates", "attention", attention_weights(*args, params))
            return attention(*args, params, dropout, **options)

        def drop(branch):
            return nn.Dropout(self.dropout_rate if train else 0.0, deterministic=not train)(branch)

        query = core + encode(safe_length(core))
        query = layer_norm("query_norm")(query + drop(attend("self_attention", self_attention, query, valid)))
        seen, pooled = attend(
            "set_attention",
            set_attention,
            query,
            (embeddings, norms),
            self.weigh(face_set),
            keys_values,
            axis_name=axis_name,
            earlier=None if earlier is None else earlier.pooled,
        )
        refined = layer_norm("output_norm")(core + drop(seen))
        weights = quality(core, safe_length(core)) if self.quality else jnp.zeros(valid.shape)
        shares = quality_shares(weights, valid)
        mean = jnp.sum(shares[..., None] * zero_padding(core + refined, valid), axis=-2)
        descriptor, norm = normalize(mean)
        kept = None if earlier is None else pooled
        return SetDescriptor(descriptor, norm, indices, valid, core, kept)

    def weigh(self, face_set: FaceSet) -> jax.Array:
        """How many faces each slot counts as in the attention to the set: the mask, or [*B, N] float32."""
        mask, weight = face_set.mask, face_set.mask
        if face_set.multiplicity is not None:
            weight = zero_padding(face_set.multiplicity, mask)
        if self.by_media and face_set.media_size is not None:
            weight = weight * media_shares(face_set.media_size, mask)
        return weight

    def pick_coreset(self, face_set: FaceSet, gamma: jax.Array, axis_name: str | None) -> Coreset:
        """The coreset for inference; a subclass may pick by something else."""
        return pick_coreset(face_set, self.coreset_size, gamma, axis_name)

    def draw_coreset(self, face_set: FaceSet, noise: jax.Array, gamma, temperature, score_scale) -> Coreset:
        """The coreset for training."""
        return _draw(face_set, noise, gamma, temperature, score_scale)


def pick_coreset(
    face_set: FaceSet, size: int, gamma: jax.Array | float, axis_name: str | None = None
) -> Coreset:
    """The coreset for inference."""
    faces = face_set.embeddings, face_set.norms
    indices = farthest_point_sampling(*faces, face_set.mask, size, gamma, axis_name)
    core = _features(*(take_faces(array, indices, axis_name) for array in faces))
    return Coreset(indices, indices >= 0, zero_padding(core, indices >= 0))


def _draw(face_set: FaceSet, noise: jax.Array, gamma, temperature, score_scale) -> Coreset:
    """The coreset for training, as many picks as there is noise for."""
    mask, size = face_set.mask, noise.shape[-2]
    faces = face_set.embeddings, face_set.norms
    rows = soft_farthest_point_sampling(*faces, mask, noise, size, gamma, temperature, score_scale)
    valid = jnp.arange(size).reshape((1,) * (mask.ndim - 1) + (size,)) < count_valid(mask)[..., None]
    indices = jnp.where(valid, jnp.argmax(rows, axis=-1), -1).astype(jnp.int32)
    embeddings, norms = widen(*(zero_padding(array, mask) for array in faces))
    weights = rows * norms[..., None, :]
    core = jnp.einsum("...kn,...nd->...kd", weights, embeddings, precision=jax.lax.Precision.HIGHEST)
    return Coreset(indices, valid, core)


def _features(embeddings: jax.Array, norms: jax.Array) -> jax.Array:
    """f_i = n_i u_i: [*B, N, D], [*B, N] -> [*B, N, D] float32."""
    return norms[..., None].astype(jnp.float32) * embeddings.astype(jnp.float32)
