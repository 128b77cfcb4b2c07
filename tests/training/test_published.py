"""The published recipe's fields, steps, statistics and gamma, as in docs/published.md, and its switches.

What it draws is in tests/data/test_published_draws.py and tests/images/test_published_augmentation.py.
"""

import types

import chex
import jax
import numpy as np
import pytest

import fpsset
from fpsset.config import base_config, check_config, ijb_config, published_config
from fpsset.config.training import RECIPE
from fpsset.data.synthetic import make_synthetic
from fpsset.errors import InputError
from fpsset.parallel.mesh import data_mesh
from fpsset.training.faces import faces_of_table, in_steps
from fpsset.training.loop import train
from fpsset.training.modules import make_head
from fpsset.training.optimizer import make_optimizer
from fpsset.weights.trained import read_params
from tests.recipe import OFFICIAL
from tests.sets import random_coreset_net

WEBFACE = 2731 * 400  # images of which a tenth is 2,731 steps of 2 x 20 templates


@pytest.mark.parametrize(
    "config", [OFFICIAL, ijb_config("IJBB"), ijb_config("IJBC", "features"), ijb_config("IJBC", "eval")]
)
def test_every_choice_is_the_official_one_and_valid(config):
    check_config(config)
    assert all(config.recipe[field] == official for field, (_, official) in RECIPE.items())
    assert all(base_config().recipe[field] == default for field, (default, _) in RECIPE.items())
    assert config.data.norm_mean == (20 if config is OFFICIAL else 0)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("recipe.draws", "faces", "'faces'; it must be 'people' or 'images'"),
        ("recipe.epoch", 0.0, r"in \(0, 1\]"),
        ("recipe.milestones", (20, 10), "increasing epochs"),
        ("recipe.epochs", 0, "config.steps is 0; it must be at least 1"),
        ("batch_size", 50, "config.batch_size is 50; .* multiple of config.recipe.group, 20"),
        ("head.t_alpha", 1.5, r"in \[0, 1\]"),
        ("optimizer.gamma_learning_rate", -1.0, "at least 0"),
        ("data.holdout", 1.0, r"in \[0, 1\)"),
        ("model.name", "posterior", r"data.holdout is 0.0; it must be in \(0, 1\)"),
    ],
)
def test_other_values_are_refused(field, value, says):
    config = published_config()
    config.data.holdout = 0.0
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=says):
        check_config(config)


def test_steps_follow_from_passes_over_the_data_given():
    config = in_steps(OFFICIAL, types.SimpleNamespace(images=WEBFACE, people=10_000))
    assert (config.steps, config.eval_every, config.optimizer.milestones) == (409_650, 2731, (54_620,))
    assert config.steps * config.batch_size == 15 * WEBFACE
    assert config.optimizer.milestones[0] * config.batch_size == 2 * WEBFACE
    few = in_steps(OFFICIAL, types.SimpleNamespace(images=30, people=10))
    assert (few.steps, few.eval_every, few.optimizer.milestones) == (150, 1, (20,))
    assert in_steps(config, types.SimpleNamespace(images=30, people=10)) == config  # what it says stays


def test_steps_that_are_given_come_first():
    config = published_config()
    config.steps, config.eval_every, config.optimizer.milestones = 200, 50, (150,)
    config = in_steps(config, types.SimpleNamespace(images=WEBFACE, people=10_000))
    assert (config.steps, config.eval_every, config.optimizer.milestones) == (200, 50, (150,))
    plain = base_config()
    assert in_steps(plain, types.SimpleNamespace(images=30, people=10)) == plain


def test_the_schedule_of_the_evaluation_script():
    """It names milestone 13 and decay .2 for the checkpoint that it evaluates."""
    config = published_config()
    config.recipe.milestones, config.optimizer.decay = (13,), 0.2
    check_config(config)
    config = in_steps(config, types.SimpleNamespace(images=WEBFACE, people=10_000))
    assert config.optimizer.milestones == (13 * 2731,) and config.optimizer.decay == 0.2


def norms_and_labels(count: int = 40):
    rng = np.random.default_rng(0)
    descriptor = rng.standard_normal((count, 8)).astype(np.float32)
    descriptor /= np.linalg.norm(descriptor, axis=1, keepdims=True)
    return descriptor, rng.uniform(5, 40, count).astype(np.float32), rng.integers(0, 5, count)


def test_statistics_are_those_of_the_templates_of_a_gpu():
    """Each GPU's logits are those of a head that sees its 20 templates alone; the first GPU's are kept."""
    given = norms_and_labels()
    given[1][20:] *= 2
    grouped = make_head(OFFICIAL, 5, 5).clone(t_alpha=0.5)
    alone = make_head(base_config(), 5, 5).clone(t_alpha=0.5, margin=grouped.margin)

    @jax.jit
    def trained(variables):
        def apply(head, rows: slice):
            arrays = (array[rows] for array in given)
            return head.apply(variables, *arrays, train=True, mutable=["batch_stats"])

        gpus = [apply(alone, slice(20)), apply(alone, slice(20, 40))]
        return apply(grouped, slice(40)), gpus, apply(alone, slice(40))

    variables = jax.jit(grouped.init)(jax.random.key(0), *given)
    (logits, updated), gpus, (whole, _) = jax.device_get(trained(variables))
    np.testing.assert_allclose(logits, np.concatenate([part for part, _ in gpus]), rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(updated, gpus[0][1], rtol=1e-6)
    assert np.abs(whole - logits).max() > 1e-3
    few = [array[:30] for array in given]
    with pytest.raises(ValueError, match="30 sets do not divide into groups of 20"):
        grouped.apply(variables, *few, train=True, mutable=["batch_stats"])
    jax.eval_shape(grouped.apply, variables, *few)  # not in training


def test_t_alpha_is_the_rate_of_the_statistics():
    config = base_config()
    assert make_head(config, 5, 5).t_alpha == 0.01 == make_head(OFFICIAL, 5, 5).t_alpha
    config.head.t_alpha = 0.25
    head, given = make_head(config, 5, 5), norms_and_labels()

    @jax.jit
    def trained():
        variables = head.init(jax.random.key(0), *given)
        return head.apply(variables, *given, train=True, mutable=["batch_stats"])

    found = trained()[1]["batch_stats"]
    np.testing.assert_allclose(found["mean"], 0.75 * 20 + 0.25 * given[1].mean(), rtol=1e-6)
    np.testing.assert_allclose(found["std"], 0.75 * 100 + 0.25 * given[1].std(ddof=1), rtol=1e-6)


def test_gamma_can_be_fixed():
    config = published_config()
    config.optimizer.gamma_learning_rate, config.model.gamma = 0.0, 0.35
    check_config(config)
    params = {"aggregator": {"gamma": np.float32(0.35), "w": np.ones(3, np.float32)}}
    params["head"] = {"kernel": np.ones(2, np.float32)}
    gradients = jax.tree.map(np.ones_like, params)
    optimizer = make_optimizer(config.optimizer)
    updates, _ = jax.jit(lambda: optimizer.update(gradients, optimizer.init(params), params))()
    assert float(updates["aggregator"]["gamma"]) == 0 and (np.asarray(updates["aggregator"]["w"]) < 0).all()


def test_noise_at_inference_is_a_choice():
    """Of two faces that are nearly as far, the official code picks either; argmax always the same."""
    angle = np.array([0.0, 1.0, -1.0])
    faces = np.stack([np.cos(angle), np.sin(angle)], 1)[None].astype(np.float32)
    sets = fpsset.FaceSet(faces, np.array([[20.0, 20, 20]], np.float32), np.ones((1, 3), bool))
    sets = sets.replace(norms=sets.norms + np.array([[1, 0, 0]], np.float32))
    net = fpsset.FaceCoresetNet(coreset_size=2, num_heads=1)
    variables = {"params": random_coreset_net(net, 2)}
    noises = np.random.default_rng(1).gumbel(size=(50, 1, 2, 3)).astype(np.float32)
    apply = jax.jit(lambda noise: net.apply(variables, sets, noise=noise, score_scale=1e4))
    out = [apply(noise) for noise in noises]
    picks = np.array([np.asarray(one.coreset_indices[0]) for one in out])
    assert (picks[:, 0] == 0).all() and set(picks[:, 1]) == {1, 2}
    plain = jax.jit(net.apply)(variables, sets)
    assert plain.coreset_indices[0].tolist() == [0, 1]
    same = [one for one, pick in zip(out, picks, strict=True) if pick[1] == 1]
    np.testing.assert_allclose(same[0].descriptor, plain.descriptor, atol=1e-5)  # no dropout


def test_nobody_may_be_held_out(tmp_path):
    config = published_config()
    config.data.holdout, config.batch_size, config.recipe.group = 0.0, 8, 4
    config.model.update(num_heads=1, coreset_size=1, dropout_rate=0.0)  # compiles sooner
    config.steps, config.eval_every, config.log_every = 4, 2, 1
    check_config(config)
    table, _ = make_synthetic(12, 0, dim=8)
    faces = faces_of_table(config, table, data_mesh(jax.devices()[:1]))
    assert faces.people == 12 and len(faces.held_out) == 0
    assert faces.images == len(np.unique(table.sources))
    train(config, tmp_path, faces)
    assert read_params(tmp_path)[2].endswith("/4")  # the last
