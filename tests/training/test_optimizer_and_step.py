"""The optimizer's parameter groups, the schedules and one training step."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fpsset
from fpsset.config import base_config
from fpsset.data.pipeline import TrainingBatch
from fpsset.training.optimizer import make_optimizer
from fpsset.training.step import geometric, init_state, make_train_step, stream_key
from tests.sets import make_set, with_padding

DIM = 16


def tree(value):
    aggregator = {"gamma": jnp.float32(value), "w": jnp.full(3, value)}
    return {"aggregator": aggregator, "head": {"kernel": jnp.full(2, value)}}


def test_gamma_has_its_own_rate_and_no_decay():
    config = base_config().optimizer
    config.learning_rate, config.gamma_learning_rate, config.weight_decay = 1e-2, 1e-3, 0.5
    optimizer = make_optimizer(config)
    params = tree(2.0)
    updates, _ = optimizer.update(tree(1.0), optimizer.init(params), params)
    # Adam's first step is the sign of the gradient; decay adds rate * 0.5 * 2.
    np.testing.assert_allclose(updates["aggregator"]["gamma"], -1e-3, rtol=1e-4)
    np.testing.assert_allclose(updates["aggregator"]["w"], -1e-2 * (1 + 0.5 * 2), rtol=1e-4)
    np.testing.assert_allclose(updates["head"]["kernel"], -1e-2 * (1 + 0.5 * 2), rtol=1e-4)


def updates_of_gamma(config, steps: int) -> list[float]:
    """How far Adam moves gamma in each step of equal gradients."""
    optimizer, params, sizes = make_optimizer(config), tree(1.0), []
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(tree(1.0), state, params)
        sizes.append(float(-updates["aggregator"]["gamma"]))
    return sizes


def test_rates_drop_at_milestones():
    config = base_config().optimizer
    config.milestones, config.weight_decay = (2, 4), 0.0
    expected = [1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6]
    np.testing.assert_allclose(updates_of_gamma(config, 6), expected, rtol=1e-3)


def test_two_milestones_in_one_update_drop_the_rate_twice():
    config = base_config().optimizer
    config.accumulate, config.milestones, config.weight_decay = 2, (2, 3), 0.0
    np.testing.assert_allclose(updates_of_gamma(config, 4), [0, 1e-4, 0, 1e-6], rtol=1e-3)


def test_gradients_are_clipped_by_their_global_norm():
    """Adam's first moment is a tenth of the clipped gradient, whose norm is 1."""
    optimizer = make_optimizer(base_config().optimizer)
    params, gradient = tree(0.0), tree(100.0)
    _, state = optimizer.update(gradient, optimizer.init(params), params)
    moments = [optax.tree.get(group, "mu") for group in state[1].inner_states.values()]
    assert float(optax.tree.norm(moments)) == pytest.approx(0.1, rel=1e-4)


def test_a_bound_that_is_infinite_clips_nothing():
    config = base_config().optimizer
    config.clip_norm = float("inf")
    optimizer, params, gradient = make_optimizer(config), tree(0.0), tree(100.0)
    _, state = optimizer.update(gradient, optimizer.init(params), params)
    moments = [optax.tree.get(group, "mu") for group in state[1].inner_states.values()]
    assert float(optax.tree.norm(moments)) == pytest.approx(0.1 * float(optax.tree.norm(gradient)), rel=1e-4)


def test_accumulated_gradients_are_averaged_into_one_update():
    config = base_config().optimizer
    config.milestones, config.clip_norm = (4,), 1e9
    plain = make_optimizer(config)
    config.accumulate, config.milestones = 2, (8,)
    twofold = make_optimizer(config)
    params = tree(1.0)
    state, states = plain.init(params), twofold.init(params)
    for number in range(6):
        low, high = tree(1.0 + number), tree(3.0 + number)
        expected, state = plain.update(tree(2.0 + number), state, params)
        first, states = twofold.update(low, states, params)
        second, states = twofold.update(high, states, params)
        assert not any(np.any(update) for update in jax.tree.leaves(first))
        for one, other in zip(jax.tree.leaves(second), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)


def test_bfloat16_products_leave_the_state_in_float32():
    losses = {}
    optimizer, root = make_optimizer(base_config().optimizer), jax.random.key(0)
    constant = geometric(1.0, 1.0, 10)
    for dtype in (jnp.float32, jnp.bfloat16):
        model, head = fpsset.FaceCoresetNet(num_heads=4, dtype=dtype), fpsset.AdaFaceHead(4, dtype=dtype)
        step = make_train_step(model, head, optimizer, root, constant, constant)
        state = init_state(model, head, optimizer, root, DIM)
        products = str(jax.make_jaxpr(step)(state, make_batch()))
        assert ("bf16" in products) == (dtype == jnp.bfloat16)
        state, metrics = step(state, make_batch())
        losses[dtype] = float(metrics["loss"])
        assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {"float32", "int32"}
    np.testing.assert_allclose(losses[jnp.bfloat16], losses[jnp.float32], rtol=1e-2)


def test_features_in_float16_are_widened_on_the_device():
    model, head = fpsset.FaceCoresetNet(num_heads=4, quality=True), fpsset.AdaFaceHead(4)
    optimizer, root = make_optimizer(base_config().optimizer), jax.random.key(0)
    constant, found = geometric(1.0, 1.0, 10), []
    step = make_train_step(model, head, optimizer, root, constant, constant)
    narrow = make_batch().face_set.embeddings.astype(np.float16)
    for embeddings in (narrow, narrow.astype(np.float32)):
        batch = make_batch()._replace(face_set=make_batch().face_set.replace(embeddings=embeddings))
        found.append(step(init_state(model, head, optimizer, root, DIM), batch))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found[0][0])} == {"float32", "int32"}
    chex.assert_trees_all_close(*found, rtol=1e-5, atol=1e-6)


def test_geometric_schedule():
    schedule = geometric(1.0, 100.0, 10)
    values = [float(schedule(jnp.int32(step))) for step in (0, 5, 10, 20)]
    np.testing.assert_allclose(values, [1, 10, 100, 100], rtol=1e-5)


def test_streams_differ_by_name_and_step():
    root = jax.random.key(0)
    keys = [stream_key(root, name, step) for name in ("gumbel", "dropout") for step in range(3)]
    data = {tuple(jax.random.key_data(key).tolist()) for key in keys}
    assert len(data) == 6


def make_batch(seed=0):
    sets = [with_padding(*make_set(seed + i, 1 + i, dim=DIM), i, 8)[:3] for i in range(6)]
    face_set = fpsset.FaceSet(*[np.stack(arrays) for arrays in zip(*sets, strict=True)])
    return TrainingBatch(face_set, np.arange(6, dtype=np.int32) % 4)


@pytest.mark.parametrize("head", [fpsset.AdaFaceHead(4), fpsset.ArcFaceHead(4), fpsset.CosFaceHead(4)])
def test_a_step_learns_and_compiles_once(head):
    model = fpsset.FaceCoresetNet(num_heads=4)
    config = base_config().optimizer
    config.learning_rate = 1e-3
    optimizer, root = make_optimizer(config), jax.random.key(0)
    constant = geometric(1.0, 1.0, 10)
    step = make_train_step(model, head, optimizer, root, constant, constant)
    state = jax.jit(lambda: init_state(model, head, optimizer, root, DIM))()
    losses = []
    for _ in range(40):
        before = state
        state, metrics = step(state, make_batch())  # NaN in its padding
        losses.append(float(metrics["loss"]))
        assert before.params["aggregator"]["gamma"].is_deleted()
    assert np.isfinite(losses).all() and np.mean(losses[-5:]) < np.mean(losses[:5]) - 1
    assert int(state.step) == 40
    assert step._cache_size() == 1
