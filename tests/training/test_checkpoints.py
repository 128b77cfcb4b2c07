"""Checkpoints: the best and the latest are kept, and read without the run."""

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fpsset
from fpsset.errors import InputError
from fpsset.training.checkpoints import Checkpoints, read_params
from fpsset.training.state import TrainState
from fpsset.weights import AggregatorCard

CARD = AggregatorCard(coreset_size=2, num_heads=4, dim=16, norm_scale=1.5, train_fingerprint="abc")


def make_state(step: int) -> TrainState:
    params = {"aggregator": {"gamma": jnp.float32(step)}, "head": {"kernel": jnp.ones((2, 3))}}
    return TrainState(jnp.int32(step), params, {"mean": jnp.float32(20)}, (jnp.zeros(3),))


def make_batches():
    return iter(grain.MapDataset.range(100).seed(0).shuffle().to_iter_dataset())


def save(workdir, scores):
    batches = make_batches()
    with Checkpoints(workdir) as checkpoints:
        for step, score in enumerate(scores, start=1):
            next(batches)
            checkpoints.save(make_state(step), batches, CARD, score)


def kept(workdir) -> list[int]:
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


@pytest.mark.parametrize(
    ("scores", "steps", "best"),
    [
        ([0.5, 0.9, 0.7, 0.8], [2, 4], 2),
        ([0.5, 0.6], [2], 2),
        ([0.9, 0.5, None], [1, 3], 1),  # the last was saved on a stop, without a validation
        ([None], [1], 1),
    ],
)
def test_the_best_and_the_latest_are_kept_and_the_best_is_read(tmp_path, scores, steps, best):
    save(tmp_path, scores)
    assert kept(tmp_path) == steps
    for path in (tmp_path, tmp_path / "checkpoints"):
        params, card, name = read_params(path)
        assert card == CARD and name == f"{tmp_path.name}/checkpoints/{best}"
        assert params["gamma"] == best
    params, _, _ = read_params(tmp_path / f"checkpoints/{steps[-1]}")
    assert params["gamma"] == steps[-1]


def test_restoring_moves_the_data_along(tmp_path):
    save(tmp_path, [0.1, 0.2, 0.3])
    straight = make_batches()
    for _ in range(3):
        next(straight)
    batches = make_batches()
    with Checkpoints(tmp_path) as checkpoints:
        state = checkpoints.restore(make_state(0), batches)
    jax.tree.map(np.testing.assert_array_equal, state, make_state(3))
    assert next(batches) == next(straight)


def test_saving_a_step_again_keeps_what_is_there(tmp_path):
    save(tmp_path, [0.1])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(make_state(1), make_batches(), CARD, 0.9)
    assert kept(tmp_path) == [1]


def test_what_is_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_params(tmp_path / "nothing")
    with pytest.raises(InputError, match="holds no checkpoint"):
        read_params(tmp_path)
    for item in ("state", "card"):
        (tmp_path / "checkpoints/7" / item).mkdir(parents=True)
        with pytest.raises(InputError, match="is not a checkpoint of fpsset"):
            fpsset.load(tmp_path / "checkpoints")
        (tmp_path / "checkpoints/7" / item).rmdir()
