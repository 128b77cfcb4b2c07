"""The optimizer's parameter groups, the schedules and one training step."""

import functools

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
from tests.sets import make_set, random_coreset_net, with_padding

DIM = 16


def tree(value):
    aggregator = {"gamma": np.float32(value), "w": np.full(3, value, np.float32)}
    return {"aggregator": aggregator, "head": {"kernel": np.full(2, value, np.float32)}}


def updates_of(config, params: dict, values: list[float]):
    """The updates [steps, ...] of parameters by gradients of these values, and the optimizer's last state."""
    optimizer = make_optimizer(config)
    gradients = jax.tree.map(lambda *steps: np.stack(steps), *map(tree, values))

    def step(state, gradient):
        return optimizer.update(gradient, state, params)[::-1]

    state, updates = jax.jit(lambda: jax.lax.scan(step, optimizer.init(params), gradients))()
    return jax.device_get(updates), state


def test_gamma_has_its_own_rate_and_no_decay():
    config = base_config().optimizer
    config.learning_rate, config.gamma_learning_rate, config.weight_decay = 1e-2, 1e-3, 0.5
    updates, _ = updates_of(config, tree(2.0), [1.0])
    # Adam's first step is the sign of the gradient; decay adds rate * 0.5 * 2.
    np.testing.assert_allclose(updates["aggregator"]["gamma"], -1e-3, rtol=1e-4)
    np.testing.assert_allclose(updates["aggregator"]["w"], -1e-2 * (1 + 0.5 * 2), rtol=1e-4)
    np.testing.assert_allclose(updates["head"]["kernel"], -1e-2 * (1 + 0.5 * 2), rtol=1e-4)


def updates_of_gamma(config, steps: int) -> np.ndarray:
    """How far Adam moves gamma in each step of equal gradients."""
    return -updates_of(config, tree(1.0), [1.0] * steps)[0]["aggregator"]["gamma"]


def test_rates_drop_at_milestones():
    config = base_config().optimizer
    config.milestones, config.weight_decay = (2, 4), 0.0
    expected = [1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6]
    np.testing.assert_allclose(updates_of_gamma(config, 6), expected, rtol=1e-3)


def test_two_milestones_in_one_update_drop_the_rate_twice():
    config = base_config().optimizer
    config.accumulate, config.milestones, config.weight_decay = 2, (2, 3), 0.0
    np.testing.assert_allclose(updates_of_gamma(config, 4), [0, 1e-4, 0, 1e-6], rtol=1e-3)


def norm_of_the_first_moment(config, value: float) -> float:
    """The global norm of Adam's first moment, a tenth of the clipped gradient, after one step."""
    _, state = updates_of(config, tree(0.0), [value])
    return global_norm([optax.tree.get(group, "mu") for group in state[1].inner_states.values()])


def global_norm(tensors) -> float:
    return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in map(np.asarray, jax.tree.leaves(tensors)))))


def test_gradients_are_clipped_by_their_global_norm():
    """The clipped gradient's norm is 1."""
    assert norm_of_the_first_moment(base_config().optimizer, 100.0) == pytest.approx(0.1, rel=1e-4)


def test_a_bound_that_is_infinite_clips_nothing():
    config = base_config().optimizer
    config.clip_norm = float("inf")
    expected = 0.1 * global_norm(tree(100.0))
    assert norm_of_the_first_moment(config, 100.0) == pytest.approx(expected, rel=1e-4)


def test_accumulated_gradients_are_averaged_into_one_update():
    config = base_config().optimizer
    config.milestones, config.clip_norm = (4,), 1e9
    expected, _ = updates_of(config, tree(1.0), [2.0 + number for number in range(6)])
    config.accumulate, config.milestones = 2, (8,)
    halves = [half + number for number in range(6) for half in (1.0, 3.0)]
    updates, _ = updates_of(config, tree(1.0), halves)
    for two, one in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        assert not two[::2].any()
        np.testing.assert_allclose(two[1::2], one, rtol=1e-5)


MODEL = fpsset.FaceCoresetNet(coreset_size=2, num_heads=2, quality=True)
# Compiles in half the time; for tests of the heads and the batches.
SMALL = fpsset.FaceCoresetNet(coreset_size=1, num_heads=1, dropout_rate=0.0)


@functools.cache
def trainer(model, head):
    """A training step and a function that makes its first state, which tests share."""
    config = base_config().optimizer
    config.learning_rate = 1e-3
    optimizer, root, constant = make_optimizer(config), jax.random.key(0), geometric(1.0, 1.0, 10)
    step = make_train_step(model, head, optimizer, root, constant, constant)
    shapes = jax.eval_shape(lambda: init_state(model, head, optimizer, root, DIM))
    kernel = np.random.default_rng(0).standard_normal(shapes.params["head"]["kernel"].shape)
    params = {"aggregator": random_coreset_net(model, DIM), "head": {"kernel": kernel.astype(np.float32)}}
    chex.assert_trees_all_equal_shapes_and_dtypes(params, shapes.params)

    def start():
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        norms = jax.tree.map(lambda leaf: leaf + 20, zeros.batch_stats)  # their mean and deviation
        return jax.device_put(zeros.replace(params=params, batch_stats=norms))

    return step, start


def test_bfloat16_products_leave_the_state_in_float32():
    losses = {}
    for dtype in (jnp.float32, jnp.bfloat16):
        step, start = trainer(MODEL.clone(coreset_size=1, dtype=dtype), fpsset.AdaFaceHead(4, dtype=dtype))
        state = start()
        products = str(jax.make_jaxpr(step)(state, make_batch()))
        assert ("bf16" in products) == (dtype == jnp.bfloat16)
        state, metrics = step(state, make_batch())
        losses[dtype] = float(metrics["loss"])
        assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {"float32", "int32"}
    np.testing.assert_allclose(losses[jnp.bfloat16], losses[jnp.float32], rtol=1e-2)


def test_features_in_float16_are_widened_on_the_device():
    step, start = trainer(SMALL, fpsset.ArcFaceHead(4))
    found = []
    narrow = make_batch().face_set.embeddings.astype(np.float16)
    for embeddings in (narrow, narrow.astype(np.float32)):
        batch = make_batch()._replace(face_set=make_batch().face_set.replace(embeddings=embeddings))
        found.append(step(start(), batch))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found[0][0])} == {"float32", "int32"}
    chex.assert_trees_all_close(*found, rtol=1e-5, atol=1e-6)


def test_geometric_schedule():
    schedule = geometric(1.0, 100.0, 10)
    values = jax.jit(jax.vmap(schedule))(np.int32([0, 5, 10, 20]))
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


@pytest.mark.parametrize(
    ("model", "head"),
    [(MODEL, fpsset.AdaFaceHead(4)), (SMALL, fpsset.ArcFaceHead(4)), (SMALL, fpsset.CosFaceHead(4))],
)
def test_a_step_learns_and_compiles_once(model, head):
    step, start = trainer(model, head)
    state, losses, programs = start(), [], set()
    for _ in range(40):
        before = state
        state, metrics = step(state, make_batch())  # NaN in its padding
        losses.append(float(metrics["loss"]))
        programs.add(step._cache_size())
        assert before.params["aggregator"]["gamma"].is_deleted()
    assert np.isfinite(losses).all() and np.mean(losses[-5:]) < np.mean(losses[:5]) - 1
    assert int(state.step) == 40
    assert len(programs) == 1
