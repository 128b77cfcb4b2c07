"""Checkpoints: which are kept, resuming, damage, and reading a model without its run."""

import json
import resource
import shutil
import types

import grain
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import fpsset
from fpsset.errors import InputError
from fpsset.parallel.mesh import data_mesh, padded_classes, state_shardings
from fpsset.runtime import disk, hosts
from fpsset.training.checkpoints import Checkpoints
from fpsset.training.step import TrainState
from fpsset.weights import trained
from fpsset.weights.cards import AggregatorCard
from fpsset.weights.trained import read_params
from tests.damage import bits

CARD = AggregatorCard(coreset_size=2, num_heads=4, dim=16, norm_scale=1.5, train_fingerprint="abc")


@pytest.fixture(autouse=True)
def nothing_is_being_deleted(monkeypatch):
    """So what is damaged is not looked at again a moment later."""
    monkeypatch.setattr(trained, "_DELETION_SECONDS", 0)


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


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A workdir with two checkpoints, of which the newest is the best."""
    save(workdir := tmp_path_factory.mktemp("saved") / "run", [0.1, 0.2])
    return workdir


@pytest.fixture
def workdir(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


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


def test_restoring_moves_the_data_along(workdir):
    straight = make_batches()
    for _ in range(2):
        next(straight)
    batches = make_batches()
    with Checkpoints(workdir) as checkpoints:
        state = checkpoints.restore(make_state(0), batches)
    jax.tree.map(np.testing.assert_array_equal, state, make_state(2))
    assert next(batches) == next(straight)


def test_saving_a_step_again_keeps_what_is_there(workdir):
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(make_state(2), make_batches(), CARD, 0.9)
    assert kept(workdir) == [1, 2]


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
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(workdir, capsys, kind):
    damage(kind, workdir / "checkpoints/2")
    batches = make_batches()
    with Checkpoints(workdir) as checkpoints:
        state = checkpoints.restore(make_state(0), batches)
        jax.tree.map(np.testing.assert_array_equal, state, make_state(1))
        assert f"warning: {workdir}/checkpoints/2: cannot be read" in capsys.readouterr().err
        next(batches)
        checkpoints.save(make_state(2), batches, CARD, 0.4)
    assert kept(workdir) == [1, 2] and len(list((workdir / "damaged_checkpoints").iterdir())) == 1
    with Checkpoints(workdir) as checkpoints:
        jax.tree.map(
            np.testing.assert_array_equal, checkpoints.restore(make_state(0), batches), make_state(2)
        )


def test_half_written_checkpoints_are_passed_over(workdir):
    (workdir / "checkpoints/2").rename(workdir / "checkpoints/2.orbax-checkpoint-tmp")
    with Checkpoints(workdir) as checkpoints:
        batches = make_batches()
        assert int(checkpoints.restore(make_state(0), batches).step) == 1
        checkpoints.save(make_state(3), batches, CARD, 0.4)
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["1", "3"]


def test_one_of_an_earlier_version_is_used_but_not_resumed(workdir):
    data = workdir / "checkpoints/2/data"
    (data / "metadata").rename(data / "process_0-of-1.json")
    with Checkpoints(workdir) as checkpoints:
        with pytest.raises(
            InputError, match=r"checkpoints/2: was written by an earlier version .* give another --workdir"
        ):
            checkpoints.restore(make_state(0), make_batches())
    assert kept(workdir) == [1, 2] and read_params(workdir)[1] == CARD


@late_ends
@pytest.mark.parametrize("name", ["card/metadata", "metrics/metrics", "data/metadata", "state/d/*", "rest"])
def test_single_bits_and_cuts_are_passed_over_or_change_nothing(workdir, tmp_path, capsys, name):
    """In every file of the newest checkpoint, for reading the model and for resuming."""
    newest = workdir / "checkpoints/2"
    listed = {"card/metadata", "metrics/metrics", "data/metadata", *map(str, newest.glob("state/d/*"))}
    files = [path for path in newest.rglob("*") if path.is_file() and str(path) not in listed]
    files = [path for path in files if str(path.relative_to(newest)) not in listed]
    files, count = (files, 1) if name == "rest" else (list(newest.glob(name)), 6)
    for number, what in enumerate(what for path in files for what in bits(path, count, seed=0)):
        params, card, used = read_params(workdir)
        step = int(params["gamma"])
        assert card == CARD and used == f"run/checkpoints/{step}", what
        assert (step == 1) == (f"warning: {newest}" in capsys.readouterr().err), what
        copy = shutil.copytree(workdir, tmp_path / f"copy{number}")
        batches = make_batches()
        with Checkpoints(copy) as checkpoints:
            state = checkpoints.restore(make_state(0), batches)
        jax.tree.map(np.testing.assert_array_equal, state, make_state(step := int(state.step)))
        assert batches.get_state() == {"next_index": step}, what
        err = capsys.readouterr().err
        assert (step == 1) == ("warning: " in err) and err.count("\n") == (step == 1), what
    assert files


def test_an_emptied_card_or_score_does_not_stop_a_run(workdir, capsys):
    """The checkpoint before it is used, and the best of those that remain is kept."""
    for name in ("metrics/metrics", "card/metadata"):
        with Checkpoints(workdir) as checkpoints:
            checkpoints.save(make_state(3), make_batches(), CARD, 0.05)
        (workdir / "checkpoints/3" / name).write_text("")
        assert read_params(workdir)[0]["gamma"] == 2
        assert f"warning: {workdir}/checkpoints/3/{name}: cannot be read" in capsys.readouterr().err
        with Checkpoints(workdir) as checkpoints:
            assert checkpoints.latest_step() == 2
        assert f"checkpoints/3: cannot be read ({name}: cannot be read" in capsys.readouterr().err
    assert kept(workdir) == [2] and len(list((workdir / "damaged_checkpoints").iterdir())) == 2


@pytest.mark.parametrize(
    "error",
    [MemoryError(), PermissionError(13, "Permission denied"), ValueError("UNAVAILABLE: bucket is away")],
)
def test_what_says_nothing_of_a_checkpoint_leaves_it_where_it_is(workdir, monkeypatch, error):
    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(trained, "_restore_aggregator", fail)
        with pytest.raises(InputError, match=r"checkpoints/2: could not be read \(.*\); mend that"):
            read_params(workdir)
    with monkeypatch.context() as patch:
        patch.setattr(ocp.Checkpointer, "restore", fail)
        with Checkpoints(workdir) as checkpoints:
            with pytest.raises(InputError, match=r"checkpoints/2: could not be read \(.*it may be good"):
                checkpoints.restore(make_state(0), make_batches())
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.read_bytes", fail)
        if isinstance(error, OSError):
            for use in (read_params, Checkpoints):
                with pytest.raises(InputError, match=r"metadata: cannot .* JSON \(Permission denied\).*mend"):
                    use(workdir)
    assert kept(workdir) == [1, 2] and not (workdir / "damaged_checkpoints").exists()


@pytest.mark.parametrize(("vote", "problem"), [(2, "it may be good"), (1, "no checkpoint can be read")])
def test_processes_of_a_run_agree_on_a_checkpoint(workdir, monkeypatch, vote, problem):
    """What one of them could not read, or found damaged, none of them uses."""
    monkeypatch.setattr(hosts, "highest", lambda own: max(own, vote))
    with Checkpoints(workdir) as checkpoints:
        with pytest.raises(InputError, match=problem):
            checkpoints.restore(make_state(0), make_batches())
    assert kept(workdir) == ([1, 2] if vote == 2 else [])


def test_a_checkpoint_that_is_being_deleted_is_left_for_the_next(workdir, monkeypatch, capsys):
    restore = trained._restore_aggregator

    def delete_first(path, card):
        if path.name == "2":
            shutil.rmtree(path)
        return restore(path, card)

    monkeypatch.setattr(trained, "_restore_aggregator", delete_first)
    assert read_params(workdir)[2] == "run/checkpoints/1"
    assert not capsys.readouterr().err


def test_checkpoints_without_seals_are_checked_by_the_sums_they_have(workdir):
    """As 0.1 wrote them."""
    for name, change in (("card", lambda card: {"format": 2, **card["card"]}), ("data", dict)):
        path = workdir / f"checkpoints/2/{name}/metadata"
        fields = change(json.loads(path.read_text()))
        path.write_text(json.dumps({key: value for key, value in fields.items() if key != "seal"}))
    assert read_params(workdir)[0]["gamma"] == 2
    with Checkpoints(workdir) as checkpoints:
        assert int(checkpoints.restore(make_state(0), make_batches()).step) == 2
    path.write_text(path.read_text().replace(str(2**30), str(2**30 + 1)))  # 2.0 is the word 2^30
    with pytest.raises(InputError, match="its parameters differ from those saved"):
        read_params(workdir / "checkpoints/2")
    (workdir / "checkpoints/2/card/metadata").write_text(json.dumps({"format": 9}))
    with pytest.raises(InputError, match="has no seal"):
        read_params(workdir / "checkpoints/2")


@late_ends
def test_all_damaged(tmp_path):
    save(tmp_path, [0.1])
    damage("cut", tmp_path / "checkpoints/1")
    with pytest.raises(InputError, match=r"checkpoints/1: is damaged \(.*\); give another checkpoint"):
        read_params(tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(InputError, match=r"no checkpoint can be read .* give another --workdir"):
            checkpoints.restore(make_state(0), make_batches())


def test_all_cards_emptied(workdir, capsys):
    """A run does not start anew without a word."""
    for step in (1, 2):
        (workdir / f"checkpoints/{step}/card/metadata").write_text("")
    with pytest.raises(InputError, match=r"card/metadata: cannot be read .*; give another checkpoint"):
        read_params(workdir)
    with Checkpoints(workdir) as checkpoints:
        with pytest.raises(InputError, match=r"no checkpoint can be read \(steps .*1.* give another --work"):
            checkpoints.restore(make_state(0), make_batches())
    assert capsys.readouterr().err.count("moved to damaged_checkpoints") == 2


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


def test_threads_of_a_failed_save_that_still_write_stop_no_run(workdir, monkeypatch):
    """What they leave, and make again while it is removed, is gone before Orbax looks."""
    unfinished, writes = workdir / "checkpoints/3.orbax-checkpoint-tmp", iter(range(3))
    unfinished.mkdir()
    manager = ocp.CheckpointManager

    def write_late(_seconds) -> None:
        if next(writes, None) is not None:
            (unfinished / "late").mkdir(parents=True)

    def start(*arguments, **options):
        assert next(writes, None) is None and not unfinished.exists()
        return manager(*arguments, **options)

    monkeypatch.setattr(disk, "time", types.SimpleNamespace(sleep=write_late))
    monkeypatch.setattr(ocp, "CheckpointManager", start)
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(make_state(3), make_batches(), CARD, 0.4)
    assert kept(workdir) == [2, 3]


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
            if step == 1:
                assert state is None
            else:
                expected = state_on(devices, step - 1)
                jax.tree.map(np.testing.assert_array_equal, state, expected)
                assert state.params["head"]["kernel"].sharding == expected.params["head"]["kernel"].sharding
            checkpoints.save(state_on(devices, step), make_batches(), CARD, None)
