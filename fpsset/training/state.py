"""The training state, and the keys of its random streams."""

import zlib

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from fpsset.face_set import FaceSet


@struct.dataclass
class TrainState:
    """All that a step changes. A pytree.

    Attributes:
      step: [] int32, steps done.
      params: {'aggregator': ..., 'head': ...}.
      batch_stats: running statistics of the head; empty for heads without.
      opt_state: of the optimizer.
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState


def stream_key(root: jax.Array, name: str, step: jax.Array | int = 0) -> jax.Array:
    """The key of a named random stream at a step: never carried, never used twice.

    Args:
      root: key of the run.
      name: of the stream.
      step: int32 scalar.

    Returns:
      A typed key.
    """
    return jax.random.fold_in(jax.random.fold_in(root, zlib.crc32(name.encode())), step)


def init_state(
    model: nn.Module,
    head: nn.Module,
    optimizer: optax.GradientTransformation,
    root: jax.Array,
    dim: int,
) -> TrainState:
    """A fresh state for embeddings of width `dim`."""
    face_set = FaceSet(jnp.ones((1, 1, dim)), jnp.ones((1, 1)), jnp.ones((1, 1), bool))
    aggregator = model.init(stream_key(root, "init_aggregator"), face_set)
    margin = head.init(
        stream_key(root, "init_head"), jnp.ones((1, dim)), jnp.ones(1), jnp.zeros(1, jnp.int32)
    )
    params = {"aggregator": aggregator["params"], "head": margin["params"]}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=margin.get("batch_stats", {}),
        opt_state=optimizer.init(params),
    )
