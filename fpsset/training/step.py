"""The training state, its random streams, and one training step: loss, gradients and update."""

import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jax.sharding import AbstractMesh, Mesh

from fpsset.data.pipeline import TrainingBatch
from fpsset.face_set import FaceSet
from fpsset.parallel.sharded_softmax import margin_cross_entropy
from fpsset.training.optimizer import global_norm

Metrics = dict[str, jax.Array]


@struct.dataclass
class TrainState:
    """Everything that a step changes; a pytree.

    Attributes:
      step: [] int32, steps done.
      params: {'aggregator': ..., 'head': ...}.
      batch_stats: running statistics of the head; empty for heads that have none.
      opt_state: of the optimizer.
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState


def stream_key(root: jax.Array, name: str, step: jax.Array | int = 0) -> jax.Array:
    """The key of a named random stream at a step: a function of its arguments, so nothing is carried along.

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


def geometric(start: float, end: float, steps: int) -> Callable[[jax.Array], jax.Array]:
    """A schedule from `start` at step 0 to `end` at step `steps` by equal factors; both positive."""
    return optax.exponential_decay(start, steps, end / start, end_value=end)


def make_train_step(
    model: nn.Module,
    head: nn.Module,
    optimizer: optax.GradientTransformation,
    root: jax.Array,
    score_scale: Callable[[jax.Array], jax.Array],
    temperature: Callable[[jax.Array], jax.Array],
    mesh: Mesh | AbstractMesh | None = None,
    head_trained: bool = True,
) -> Callable[[TrainState, TrainingBatch], tuple[TrainState, Metrics]]:
    """Builds the jitted training step, which donates its input state.

    Args:
      model: the set model.
      head: a margin head over the training classes.
      optimizer: for the parameters of both.
      root: key of the run; the streams 'gumbel' and 'dropout' are folded from it at each step.
      score_scale: schedule of the factor of the scores in soft sampling.
      temperature: schedule of the softmax temperature in soft sampling.
      mesh: of the devices that share batches and classes, see `parallel.mesh`; None for one device. Results
        do not depend on it.
      head_trained: whether the head gets gradients; its kernel's cost as much as its logits.

    Returns:
      (state, batch) -> (new state, metrics of the old one): float32 scalars loss, accuracy (of the logits
      with margins), grad_norm, norm (mean over sets) and, if the model has it, gamma.
    """

    def loss_of(params, state: TrainState, batch: TrainingBatch):
        if not head_trained:
            params = params | {"head": jax.lax.stop_gradient(params["head"])}
        out = model.apply(
            {"params": params["aggregator"]},
            batch.face_set,
            train=True,
            temperature=temperature(state.step),
            score_scale=score_scale(state.step),
            rngs={name: stream_key(root, name, state.step) for name in ("gumbel", "dropout")},
        )
        terms, updated = head.apply(
            {"params": params["head"], "batch_stats": state.batch_stats},
            out.descriptor.shape[-1],
            out.norm,
            train=True,
            method="terms",
            mutable=["batch_stats"],
        )
        losses, correct = margin_cross_entropy(head, terms, out.descriptor, batch.labels, mesh)
        loss, stats = jnp.mean(losses), updated.get("batch_stats", {})
        return loss, (stats, {"loss": loss, "accuracy": jnp.mean(correct), "norm": jnp.mean(out.norm)})

    def step(state: TrainState, batch: TrainingBatch) -> tuple[TrainState, Metrics]:
        grads, (stats, metrics) = jax.grad(loss_of, has_aux=True)(state.params, state, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics["grad_norm"] = global_norm(grads)
        if "gamma" in state.params["aggregator"]:
            metrics["gamma"] = state.params["aggregator"]["gamma"]
        return TrainState(state.step + 1, params, stats, opt_state), metrics

    return jax.jit(step, donate_argnums=0)
