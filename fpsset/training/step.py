"""One training step: loss, gradients, update."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import AbstractMesh, Mesh

from fpsset.data.pipeline import TrainingBatch
from fpsset.parallel.class_axis import margin_cross_entropy
from fpsset.training.optimizer import global_norm
from fpsset.training.state import TrainState, stream_key

Metrics = dict[str, jax.Array]


def geometric(start: float, end: float, steps: int) -> Callable[[jax.Array], jax.Array]:
    """A schedule from `start` at step 0 to `end` at step `steps`, by equal factors; both positive."""

    def schedule(step: jax.Array) -> jax.Array:
        progress = jnp.clip(step.astype(jnp.float32) / steps, 0.0, 1.0)
        return start * (end / start) ** progress

    return schedule


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
    """Builds the jitted step. It donates the state given to it.

    Args:
      model: the set model.
      head: a margin head over the training classes.
      optimizer: of both their parameters.
      root: key of the run; the streams 'gumbel' and 'dropout' are folded from it at each step.
      score_scale: schedule of the factor of the scores in the soft sampling.
      temperature: schedule of the softmax's temperature there.
      mesh: of devices that share batches and classes, of `parallel.mesh`; None for one device. The
        numbers do not depend on it.
      head_trained: whether the head gets gradients; those of the kernel are as much work as its logits.

    Returns:
      (state, batch) -> (state after it, float32 scalars from before it: loss, accuracy of the logits
      with their margins, grad_norm, gamma, mean norm of the sets).
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
