"""Checkpoints: which are kept, resuming, damage, and reading a model without its run."""

import resource

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fpsset
from fpsset.errors import InputError
from fpsset.parallel.mesh import data_mesh, padded_classes, state_shardings
from fpsset.training.checkpoints import Checkpoints
from fpsset.training.step import TrainState
from fpsset.weights.cards import AggregatorCard
from fpsset.weights.trained import read_params

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
        ([0.9, 0.5, 0.7, 0.8], [1, 3, 4], 1),
        ([0.4, 0.5, 0.6], [2, 3], 3),
        ([0.9, 0.8, 0.5, None], [1, 3, 4], 1),  # the last was saved on a stop, without a validation
        ([None], [1], 1),
    ],
)
def test_the_best_and_the_two_newest_are_kept_and_the_best_is_read(tmp_path, scores, steps, best):
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


def damage(kind: str, folder):
    """What a crash, a full disk or a bad sector leaves of a checkpoint."""
    if kind == "no metadata":
        (folder / "state/_METADATA").unlink()
    elif kind == "no position":
        (folder / "data/metadata").unlink()
    else:
        path = max((path for path in (folder / "state").rglob("d/*")), key=lambda path: path.stat().st_size)
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(
            {
                "cut": content[:middle],
                "empty": b"",
                "a bit": content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :],
            }[kind]
        )


# From asynchronous I/O that was under way when another operation failed.
late_ends = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@late_ends
@pytest.mark.parametrize("kind", ["no metadata", "no position", "cut", "empty", "a bit"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, capsys, kind):
    save(tmp_path, [0.1, 0.2, 0.3])
    damage(kind, tmp_path / "checkpoints/3")
    batches = make_batches()
    with Checkpoints(tmp_path) as checkpoints:
        state = checkpoints.restore(make_state(0), batches)
        jax.tree.map(np.testing.assert_array_equal, state, make_state(2))
        assert f"warning: {tmp_path}/checkpoints/3: cannot be read" in capsys.readouterr().err
        next(batches)
        checkpoints.save(make_state(3), batches, CARD, 0.4)
    assert kept(tmp_path) == [2, 3] and len(list((tmp_path / "damaged_checkpoints").iterdir())) == 1
    with Checkpoints(tmp_path) as checkpoints:
        jax.tree.map(
            np.testing.assert_array_equal, checkpoints.restore(make_state(0), batches), make_state(3)
        )


def test_half_written_checkpoints_are_passed_over(tmp_path):
    save(tmp_path, [0.1, 0.2])
    (tmp_path / "checkpoints/2").rename(tmp_path / "checkpoints/2.orbax-checkpoint-tmp")
    with Checkpoints(tmp_path) as checkpoints:
        batches = make_batches()
        assert int(checkpoints.restore(make_state(0), batches).step) == 1
        checkpoints.save(make_state(3), batches, CARD, 0.4)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["1", "3"]


def test_one_of_an_earlier_version_is_used_but_not_resumed(tmp_path):
    save(tmp_path, [0.1])
    (tmp_path / "checkpoints/1/data/metadata").rename(tmp_path / "checkpoints/1/data/process_0-of-1.json")
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(
            InputError, match=r"checkpoints/1: was written by an earlier version .* give another --workdir"
        ):
            checkpoints.restore(make_state(0), make_batches())
    assert kept(tmp_path) == [1] and read_params(tmp_path)[1] == CARD


@late_ends
def test_all_damaged(tmp_path):
    save(tmp_path, [0.1])
    damage("cut", tmp_path / "checkpoints/1")
    with pytest.raises(InputError, match=r"checkpoints/1: is damaged \(.*\); give another checkpoint"):
        read_params(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(InputError, match=r"no checkpoint can be read .* give another --workdir"):
            checkpoints.restore(make_state(0), make_batches())


@late_ends
def test_a_full_disk_is_said_and_what_was_saved_stays(tmp_path, capfd):
    """Simulated by a limit on file sizes, which fails writes as a full disk does."""

    def large(step):
        kernel = jax.random.normal(jax.random.key(step), (200, 100))
        return make_state(step).replace(params={"aggregator": {}, "head": {"kernel": kernel}})

    batches, limits = make_batches(), resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(tmp_path) as checkpoints:
        next(batches)
        checkpoints.save(large(1), batches, CARD, 0.1)
    message = r"a checkpoint could not be written \(File too large\); the last good one is of step 1; free"
    try:
        with pytest.raises(InputError, match=message):
            with Checkpoints(tmp_path) as checkpoints:
                resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
                checkpoints.save(large(2), batches, CARD, 0.2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "Traceback" not in capfd.readouterr().err
    with Checkpoints(tmp_path) as checkpoints:
        state = checkpoints.restore(large(0), batches)
        jax.tree.map(np.testing.assert_array_equal, state, large(1))
        checkpoints.save(large(2), batches, CARD, 0.2)
    assert kept(tmp_path) == [1, 2]


def test_another_number_of_devices_takes_a_checkpoint(tmp_path):
    """A kernel of 5 columns, padded for 4, then 2, then 8 devices."""

    def state_on(devices, width):
        kernel = np.zeros((3, padded_classes(5, mesh := data_mesh(jax.devices()[:devices]))), np.float32)
        kernel[:, :5] = width
        params = {"aggregator": {"gamma": jnp.float32(0)}, "head": {"kernel": kernel}}
        state = TrainState(jnp.int32(width), params, {}, (jnp.zeros(3),))
        return jax.device_put(state, state_shardings(state, mesh))

    for step, devices in enumerate((4, 2, 8), start=1):
        with Checkpoints(tmp_path) as checkpoints:
            state = checkpoints.restore(state_on(devices, 0), make_batches())
            expected = state_on(devices, step - 1)
            jax.tree.map(np.testing.assert_array_equal, state, expected)
            assert state.params["head"]["kernel"].sharding == expected.params["head"]["kernel"].sharding
            checkpoints.save(state_on(devices, step), make_batches(), CARD, None)
