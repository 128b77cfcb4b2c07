"""AdamW as the method trains: gamma apart and without decay, rates that drop at milestones."""

import jax
import optax


def make_optimizer(config) -> optax.GradientTransformation:
    """The optimizer of `{'aggregator': ..., 'head': ...}`.

    Args:
      config: `config.optimizer`.

    Returns:
      Clipping by the global norm, then AdamW; its gamma has a rate of its own and no decay.
    """

    def rate(start: float) -> optax.Schedule:
        return optax.piecewise_constant_schedule(start, dict.fromkeys(config.milestones, config.decay))

    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.partition(
            {
                "rest": optax.adamw(rate(config.learning_rate), weight_decay=config.weight_decay),
                "gamma": optax.adamw(rate(config.gamma_learning_rate), weight_decay=0.0),
            },
            _groups,
        ),
    )


def _groups(params):
    def group(path, _):
        return "gamma" if path[-1].key == "gamma" else "rest"

    return jax.tree_util.tree_map_with_path(group, params)
