"""FaceCoresetNet (AAAI 2024, arXiv 2308.14075): a coreset of a face set, refined by attention to the set."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from fpsset.face_set import FaceSet, SetDescriptor
from fpsset.models.decoder import CoresetDecoder
from fpsset.models.selector import Coreset, CoresetSelector
from fpsset.models.set_model import SetModel
from fpsset.ops.attention import AttentionSums
from fpsset.ops.fused_pass import Prepared, fits, fused_pass, prepare
from fpsset.ops.metric import DEFAULT_GAMMA


class FaceCoresetNet(SetModel):
    """Picks a coreset of a set of faces and lets it attend to the whole set.

    The selector picks the faces, the decoder refines them. At inference every pick is the arg max, so no
    randomness is needed; given `noise`, it is drawn as in training, which the official code does with
    `score_scale` 1e4. In training, picks are drawn by straight-through Gumbel-softmax, from the rng stream
    'gumbel' or from given noise, and dropout draws from the rng stream 'dropout'.

    Attributes:
      coreset_size: K, the number of picks per set.
      num_heads: heads of both attentions; must divide D.
      dropout_rate: dropout of attention weights and of each branch, in training.
      gamma_init: initial value of gamma, the learned exponent of the norm in the metric.
      quality: weight faces by a learned quality; False, as published, weights them equally.
      by_media: let all faces of one medium count as one face in the attention, if media are known.
      dtype: dtype of products with parameters, float32 or bfloat16; parameters and all else are float32.

    Example:
      >>> import jax, numpy as np, fpsset
      >>> faces = np.random.default_rng(0).standard_normal((5, 16), "f")
      >>> sets = fpsset.FaceSet(faces / np.linalg.norm(faces, axis=1, keepdims=True),
      ...                       np.arange(5, dtype="f"), np.ones(5, bool))
      >>> net = fpsset.FaceCoresetNet(coreset_size=2)
      >>> variables = jax.jit(net.init)(jax.random.key(1), sets)
      >>> out = jax.jit(net.apply)(variables, sets)
      >>> out.descriptor.shape, int(out.coreset_indices[0])
      ((16,), 4)
    """

    coreset_size: int = 3
    num_heads: int = 8
    dropout_rate: float = 0.1
    gamma_init: float = DEFAULT_GAMMA
    quality: bool = False
    by_media: bool = False
    dtype: jnp.dtype = jnp.float32

    def setup(self):  # noqa: D102
        self.selector = self.make_selector()
        self.decoder = CoresetDecoder(
            self.num_heads, self.dropout_rate, self.quality, self.by_media, self.dtype
        )
        # Shared scopes keep the parameter tree flat, as in saved checkpoints.
        nn.share_scope(self, self.selector)
        nn.share_scope(self, self.decoder)

    def make_selector(self) -> CoresetSelector:
        """The selector; subclasses may override it to pick by another rule."""
        return CoresetSelector(self.coreset_size, self.gamma_init)

    def __call__(
        self,
        face_set: FaceSet,
        *,
        train: bool = False,
        noise: jax.Array | None = None,
        temperature: jax.Array | float = 1.0,
        score_scale: jax.Array | float = 1.0,
    ) -> SetDescriptor:
        """Aggregates each set into one descriptor.

        Args:
          face_set: sets [*B, N] of faces [D], where D is even and a multiple of `num_heads`.
          train: draw the picks at random and apply dropout.
          noise: [*B, K, N] standard Gumbel draws; when None, drawn from the stream 'gumbel' in training, and
            none at inference.
          temperature: temperature of the softmax over faces, > 0, where there is noise.
          score_scale: factor on the scores before the noise is added.

        Returns:
          SetDescriptor [*B].

        Raises:
          ValueError: K < 1, D is odd or not a multiple of `num_heads`, the mask is not bool, or shapes
            disagree.
        """
        face_set = self._checked(face_set)
        if not train and noise is None:
            return self.decoder(self.selector(face_set), face_set)
        if noise is None:
            mask = face_set.mask
            shape = (*mask.shape[:-1], self.coreset_size, mask.shape[-1])
            noise = jax.random.gumbel(self.make_rng("gumbel"), shape)
        coreset = self.selector.sample(face_set, noise, temperature, score_scale)
        return self.decoder(coreset, face_set, train=train)

    def select(self, face_set: FaceSet, axis_name: str | None = None) -> Coreset:
        """See `SetModel`."""
        return self.selector(self._checked(face_set), axis_name)

    def has_kernel(self, face_set: FaceSet) -> bool:
        """Whether `in_one_kernel` takes these sets: small ones, of a model with this selector."""
        published = type(self).make_selector is FaceCoresetNet.make_selector
        published &= face_set.multiplicity is None
        return published and fits(face_set.embeddings, self.coreset_size, self.num_heads)

    def for_kernel(self) -> Prepared:
        """See `SetModel`."""
        return prepare(self.decoder.pass_params(self.selector.gamma))

    def in_one_kernel(
        self, face_set: FaceSet, prepared: Prepared | None = None, interpret: bool = False
    ) -> SetDescriptor:
        """The call at inference in one kernel, for TPUs; see `has_kernel`.

        Args:
          face_set: sets [B, N].
          prepared: what `for_kernel` returned, where it is called once for many batches.
          interpret: run the kernel on any platform, slowly.
        """
        face_set = self._checked(face_set)
        prepared = self.for_kernel() if prepared is None else prepared
        faces = face_set.embeddings, face_set.norms, face_set.mask, self.decoder.weigh(face_set)
        indices, features, *found = fused_pass(*faces, prepared, self.coreset_size, self.num_heads, interpret)
        return SetDescriptor(*found, indices, indices >= 0, features)

    def queries(self, coreset: Coreset) -> jax.Array:
        """See `SetModel`; R = H K."""
        return self.decoder.queries(coreset)

    def look(self, queries: jax.Array, face_set: FaceSet, axis_name: str | None = None) -> AttentionSums:
        """See `SetModel`."""
        return self.decoder.look(queries, face_set)

    def conclude(self, coreset: Coreset, sums: AttentionSums) -> SetDescriptor:
        """See `SetModel`."""
        return self.decoder.conclude(coreset, sums)

    def with_attention(self, face_set: FaceSet) -> tuple[SetDescriptor, jax.Array]:
        """See `SetModel`."""
        face_set = self._checked(face_set)
        coreset = self.selector(face_set)
        return self.decoder(coreset, face_set), self.decoder.attention(coreset, face_set)

    def _checked(self, face_set: FaceSet) -> FaceSet:
        face_set = face_set.checked()
        dim = face_set.embeddings.shape[-1]
        if dim % self.num_heads:
            raise ValueError(
                f"embeddings of width {dim} do not split over {self.num_heads} heads; "
                "num_heads must divide the width"
            )
        return face_set
