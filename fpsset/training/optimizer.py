"""AdamW as the method trains: gamma apart and without decay, rates that drop at milestones."""

import functools

import jax
import jax.numpy as jnp
import optax

from fpsset.ops.masking import widen


def make_optimizer(config, head_trained: bool = True) -> optax.GradientTransformation:
    """The optimizer of `{'aggregator': ..., 'head': ...}`.

    Args:
      config: `config.optimizer`.
      head_trained: whether the head's kernel moves.

    Returns:
      Clipping by the global norm, then AdamW; its gamma has a rate of its own and no decay. With
      `accumulate` above 1 that many gradients are averaged before each update.
    """
    drops = [milestone // config.accumulate for milestone in config.milestones]  # in updates

    def rate(start: float) -> optax.Schedule:
        return optax.piecewise_constant_schedule(start, dict.fromkeys(drops, config.decay))

    optimizer = optax.chain(
        _clip(config.clip_norm),
        optax.partition(
            {
                "rest": optax.adamw(rate(config.learning_rate), weight_decay=config.weight_decay),
                "gamma": optax.adamw(rate(config.gamma_learning_rate), weight_decay=0.0),
                "fixed": optax.set_to_zero(),
            },
            functools.partial(_groups, head_trained=head_trained),
        ),
    )
    if config.accumulate == 1:
        return optimizer
    return optax.MultiSteps(optimizer, config.accumulate).gradient_transformation()


def global_norm(tree) -> jax.Array:
    """The length of all leaves as one vector; [] float32 at least."""

    def squared(leaf):
        # The last axis last, and fenced off: XLA's CPU compiler sums a whole array one number at a time.
        (leaf,) = widen(leaf)
        columns = jnp.sum(jnp.square(leaf), axis=tuple(range(leaf.ndim - 1)))
        precision = jnp.finfo(leaf.dtype)
        return jnp.sum(jax.lax.reduce_precision(columns, precision.nexp, precision.nmant))

    return jnp.sqrt(sum(map(squared, jax.tree.leaves(tree))))


def _clip(most: float) -> optax.GradientTransformation:
    # As optax.clip_by_global_norm of float32 gradients; times one factor, so that no clipped copy is written.
    def update(gradients, state, params=None):
        del params
        length = global_norm(gradients)
        factor = jnp.where(length <= most, 1.0, most / length)
        return jax.tree.map(lambda gradient: factor * gradient, gradients), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _groups(params, head_trained: bool):
    def group(path, _):
        if path[0].key == "head" and not head_trained:
            return "fixed"
        return "gamma" if path[-1].key == "gamma" else "rest"

    return jax.tree_util.tree_map_with_path(group, params)
