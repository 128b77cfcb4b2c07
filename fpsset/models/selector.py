"""The selector: picks a coreset of each set by farthest-point sampling under a learned metric."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from fpsset.face_set import FaceSet
from fpsset.ops.masking import count_valid, widen, zero_padding
from fpsset.ops.metric import DEFAULT_GAMMA
from fpsset.ops.precision import einsum
from fpsset.ops.sampling import farthest_point_sampling, soft_farthest_point_sampling, take_faces

MAX_CORESET_SIZE = 4096  # picks; a file that asks for more is damaged or hostile


class Coreset(NamedTuple):
    """The faces picked from each set."""

    indices: jax.Array  # [*B, K] int32 slots, -1 where a set has fewer than K faces
    mask: jax.Array  # [*B, K] bool, True where a pick is valid
    features: jax.Array  # [*B, K, D] float32, n_i u_i, 0 where not valid


class CoresetSelector(nn.Module):
    """Picks K faces, each the farthest from the earlier picks (arXiv 2308.14075, section 3).

    The distance n^gamma (1 - cos) / 2 trades a face's norm against how different it is; gamma is learned.

    Attributes:
      size: K >= 1.
      gamma_init: initial value of gamma.
    """

    size: int = 3
    gamma_init: float = DEFAULT_GAMMA

    def setup(self):  # noqa: D102
        self.gamma = self.param("gamma", nn.initializers.constant(self.gamma_init), ())

    def __call__(self, face_set: FaceSet, axis_name: str | None = None) -> Coreset:
        """The picks at inference: deterministically the farthest face each time.

        Args:
          face_set: sets [*B, N].
          axis_name: inside `shard_map`, the device axis over which the slots of each set are split.
        """
        faces = face_set.embeddings, face_set.norms
        indices = farthest_point_sampling(*faces, face_set.mask, self.size, self.gamma, axis_name)
        valid = indices >= 0
        # Zero what is no pick before the product, whose gradient would take NaN from padding.
        picked = (zero_padding(take_faces(array, indices, axis_name), valid) for array in faces)
        return Coreset(indices, valid, features_of(*picked))

    def sample(
        self,
        face_set: FaceSet,
        noise: jax.Array,
        temperature: jax.Array | float = 1.0,
        score_scale: jax.Array | float = 1.0,
    ) -> Coreset:
        """The picks in training, drawn by straight-through Gumbel-softmax.

        Args:
          face_set: sets [*B, N].
          noise: [*B, K, N] standard Gumbel draws.
          temperature: temperature of the softmax over faces, > 0.
          score_scale: factor on the scores before the noise is added.
        """
        mask, faces = face_set.mask, (face_set.embeddings, face_set.norms)
        rows = soft_farthest_point_sampling(
            *faces, mask, noise, self.size, self.gamma, temperature, score_scale
        )
        places = jnp.arange(self.size).reshape((1,) * (mask.ndim - 1) + (self.size,))
        valid = places < count_valid(mask)[..., None]
        indices = jnp.where(valid, jnp.argmax(rows, axis=-1), -1).astype(jnp.int32)
        embeddings, norms = widen(*(zero_padding(array, mask) for array in faces))
        weights = rows * norms[..., None, :]
        features = einsum("...kn,...nd->...kd", weights, embeddings)
        return Coreset(indices, valid, features)


def features_of(embeddings: jax.Array, norms: jax.Array) -> jax.Array:
    """f_i = n_i u_i: [*B, N, D], [*B, N] -> [*B, N, D] float32."""
    return norms[..., None].astype(jnp.float32) * embeddings.astype(jnp.float32)
