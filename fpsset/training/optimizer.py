"""AdamW as the method trains: gamma apart and without decay, rates that drop at milestones."""

import jax
import optax


def make_optimizer(config) -> optax.GradientTransformation:
    """The optimizer of `{'aggregator': ..., 'head': ...}`.

    Args:
      config: `config.optimizer`.

    Returns:
      Clipping by the global norm, then AdamW; its gamma has a rate of its own and no decay. With
      `accumulate` above 1 that many gradients are averaged before each update.
    """
    drops = [milestone // config.accumulate for milestone in config.milestones]  # in updates

    def rate(start: float) -> optax.Schedule:
        return optax.piecewise_constant_schedule(start, dict.fromkeys(drops, config.decay))

    optimizer = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.partition(
            {
                "rest": optax.adamw(rate(config.learning_rate), weight_decay=config.weight_decay),
                "gamma": optax.adamw(rate(config.gamma_learning_rate), weight_decay=0.0),
            },
            _groups,
        ),
    )
    if config.accumulate == 1:
        return optimizer
    return optax.MultiSteps(optimizer, config.accumulate).gradient_transformation()


def _groups(params):
    def group(path, _):
        return "gamma" if path[-1].key == "gamma" else "rest"

    return jax.tree_util.tree_map_with_path(group, params)
