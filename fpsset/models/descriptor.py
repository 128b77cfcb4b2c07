"""What every set model returns."""

import jax
from flax import struct

from fpsset.ops.attention import Pooled


@struct.dataclass
class SetDescriptor:
    """One descriptor per set. A pytree.

    Attributes:
      descriptor: [*B, D] float32 of unit length (zero for a set without faces).
      norm: [*B] float32, the descriptor's length before normalisation: the set's quality.
      coreset_indices: [*B, K] int32 faces picked, -1 beyond the set's size; None where a model picks none.
      coreset_mask: [*B, K] bool, True where a pick is valid.
      core_features: [*B, K, D] float32, the picked n_i u_i, 0 where a pick is not valid.
      pooled: sums of the set attention, where a set's faces come a part at a time; else None.
    """

    descriptor: jax.Array
    norm: jax.Array
    coreset_indices: jax.Array | None = None
    coreset_mask: jax.Array | None = None
    core_features: jax.Array | None = None
    pooled: Pooled | None = None
