"""FaceCoresetNet (AAAI 2024, arXiv 2308.14075): a coreset of a face set, refined by the whole set."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import initializers as init

from fpsset.face_set import FaceSet
from fpsset.models.descriptor import SetDescriptor
from fpsset.ops.attention import AttentionParams, attention_output, attention_weights
from fpsset.ops.masking import count_valid, normalize, safe_length, zero_padding
from fpsset.ops.norm_encoding import normalized_norm_encoding
from fpsset.ops.sampling import farthest_point_sampling, soft_farthest_point_sampling

_EPSILON = 1e-5


class FewQueryAttention(nn.Module):
    """Multi-head attention of few queries, with dropout on its weights and on its output."""

    num_heads: int
    dropout_rate: float

    @nn.compact
    def __call__(self, queries, keys, values, mask, *, train: bool):
        """[*B, K, D], [*B, N, D], [*B, N, D], [*B, N] -> [*B, K, D] float32."""
        dim = queries.shape[-1]
        split = (dim, self.num_heads, dim // self.num_heads)
        # The ranges of a joint [3D, D] Xavier projection, and of a plain linear layer behind it.
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
        drop = nn.Dropout(self.dropout_rate, deterministic=not train)
        weights = drop(attention_weights(queries, keys, mask, params))
        return drop(attention_output(weights, values, mask, params))


class FaceCoresetNet(nn.Module):
    """Picks a coreset of a set of faces and lets it attend to the whole set.

    At inference the picks are the arg max and no randomness is needed. In training they are drawn
    by straight-through Gumbel-softmax, from the rng stream 'gumbel' or from the noise given, and
    dropout draws from the stream 'dropout'.

    Attributes:
      coreset_size: K, faces picked.
      num_heads: heads of both attentions; divides D.
      dropout_rate: of attention weights and of each branch.
      gamma_init: start of the learned exponent of the norm in the metric.
    """

    coreset_size: int = 3
    num_heads: int = 8
    dropout_rate: float = 0.1
    gamma_init: float = 0.01

    @nn.compact
    def __call__(
        self,
        face_set: FaceSet,
        *,
        train: bool = False,
        noise: jax.Array | None = None,
        temperature: jax.Array | float = 1.0,
        score_scale: jax.Array | float = 1.0,
    ) -> SetDescriptor:
        """Aggregates each set.

        Args:
          face_set: sets [*B, N] of D-dimensional faces, D even and a multiple of `num_heads`.
          train: draw the picks and apply dropout.
          noise: [*B, K, N] Gumbel draws for training; from the stream 'gumbel' when None.
          temperature: of the softmax over faces, in training.
          score_scale: factor of the scores before the softmax, in training.

        Returns:
          SetDescriptor with its coreset.

        Raises:
          ValueError: K < 1, or D not a multiple of `num_heads`.
        """
        mask, norms = face_set.mask, zero_padding(face_set.norms, face_set.mask)
        embeddings = zero_padding(face_set.embeddings, mask)
        dim = embeddings.shape[-1]
        if dim % self.num_heads:
            raise ValueError(f"embeddings of width {dim} do not split over {self.num_heads} heads")
        gamma = self.param("gamma", init.constant(self.gamma_init), ())

        faces = norms[..., None].astype(jnp.float32) * embeddings.astype(jnp.float32)
        size = self.coreset_size
        if train:
            if noise is None:
                shape = (*mask.shape[:-1], size, mask.shape[-1])
                noise = jax.random.gumbel(self.make_rng("gumbel"), shape)
            rows = soft_farthest_point_sampling(
                embeddings, norms, mask, noise, size, gamma, temperature, score_scale
            )
            valid = jnp.arange(size).reshape((1,) * (mask.ndim - 1) + (size,)) < count_valid(mask)[..., None]
            indices = jnp.where(valid, jnp.argmax(rows, axis=-1), -1).astype(jnp.int32)
            core = jnp.einsum("...kn,...nd->...kd", rows, faces, precision=jax.lax.Precision.HIGHEST)
        else:
            indices = farthest_point_sampling(embeddings, norms, mask, size, gamma)
            valid = indices >= 0
            core = jnp.take_along_axis(faces, jnp.maximum(indices, 0)[..., None], axis=-2)
            core = zero_padding(core, valid)

        scale = self.param("norm_encoding_scale", init.ones, (dim,))
        bias = self.param("norm_encoding_bias", init.zeros, (dim,))

        def encode(lengths):
            return normalized_norm_encoding(lengths, scale, bias, _EPSILON)

        def layer_norm(name):
            return nn.LayerNorm(epsilon=_EPSILON, use_fast_variance=False, name=name)

        def attention(name):
            return FewQueryAttention(self.num_heads, self.dropout_rate, name=name)

        query = core + encode(safe_length(core))
        query = layer_norm("query_norm")(
            query + attention("self_attention")(query, query, query, valid, train=train)
        )
        refined = layer_norm("output_norm")(
            core + attention("set_attention")(query, faces + encode(norms), faces, mask, train=train)
        )
        total = jnp.sum(zero_padding(core + refined, valid), axis=-2)
        mean = total / jnp.maximum(count_valid(valid), 1).astype(jnp.float32)[..., None]
        descriptor, norm = normalize(mean)
        return SetDescriptor(descriptor, norm, indices, valid, core)
