"""fpsset.main as a program: results, resuming after kills, and bad input."""

import json
import re
import signal
import time

import jax
import numpy as np
import pytest

import fpsset
from fpsset.data.files import write_features
from fpsset.data.synthetic import make_synthetic
from fpsset.training.telemetry import tag_of
from tests.compiling import FLAGS
from tests.forked import Forked, assert_refused, run_forked
from tests.runs import ROOT, few_people, finish, saved_state, start, steps_logged
from tests.served import serve
from tests.training.test_telemetry import scalars

STEPS = 100


def wait_for_step(process, workdir, step) -> None:
    deadline = time.monotonic() + 120
    while max(steps_logged(workdir), default=0) < step:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def small(folder):
    """Options of a small run."""
    options = [f"--config.steps={STEPS}", "--config.eval_every=25", "--config.evaluation.resamples=20"]
    return [*few_people(folder), *options]


@pytest.fixture(scope="module")
def straight(folder, small):
    """(workdir, stdout, stderr) of an uninterrupted run."""
    workdir = folder / "straight"
    return workdir, *serve("features.py", "--verbose", "--workdir", workdir, *small)


def test_a_run_writes_results_and_reports_progress(straight):
    workdir, out, err = straight
    results = json.loads((workdir / "results.json").read_text())
    assert list(results) == ["verification", "quality", "paired"]
    methods = results["verification"]
    assert list(methods) == ["mean", "norm_weighted", "media_mean", "fps", "whitened", "fpsset"]
    for metrics in methods.values():
        assert metrics["templates"] == 80 and metrics["genuine_pairs"] == 40
        assert metrics["impostor_pairs"] == 80 * 79 // 2 - 40
        assert 0 < metrics["tar_low@far=1e-2"] <= metrics["tar@far=1e-2"] <= metrics["tar_high@far=1e-2"] <= 1
        assert metrics["achieved_far@far=1e-2"] <= 1e-2
        assert metrics["tar@far=1e-6"] is None
    for name in methods:
        assert f" {name} " in out
    assert "not enough" in out and "40 genuine and 3120 impostor pairs" in out
    assert "validation_tar@far=1e-2" in err and "held-out people" in err
    assert (workdir / "report/roc.png").read_bytes()[:4] == b"\x89PNG"
    assert (workdir / "report/verification.txt").read_text() in out + "\n"
    assert err.startswith(f"results go to {workdir}\n")
    ending = out.splitlines()[-15:]
    assert f"report   {workdir}/report/index.html" in ending and f"results  {workdir}/results.json" in ending
    assert all(len(line) <= 80 or str(workdir) in line for line in out.splitlines())
    logged = steps_logged(workdir)
    assert logged == sorted(logged) and logged[-1] == STEPS
    first = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[0])
    assert {"step", "loss", "accuracy", "grad_norm", "gamma", "norm", "templates_per_second"} == set(first)


def test_programs_are_cached_and_steps_traced(folder, small):
    """A second identical run finds its compiled programs; the first leaves a trace of two steps."""
    kept = folder / "programs"
    options = [*small, "--config.steps=4", "--config.evaluation.resamples=0"]
    options += ["--config.model.init=random", "--config.head.init=random", "--config.model.coreset_size=1"]
    # The package keeps all programs of a run that names a folder; tests only those that compile slowly.
    kept_from = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": None}

    def run(workdir: str, *more: str) -> set[str]:
        line = [f"--config={ROOT}/configs/features.py", f"--workdir={folder}/{workdir}", *options, *more]
        line.append(f"--config.compilation_cache={kept}")
        finish(Forked("fpsset.main", *line, XLA_FLAGS=FLAGS, **kept_from))
        return {path.name for path in kept.iterdir() if not path.name.endswith("-atime")}

    programs = run("first", "--config.profile=2:3", "--config.tensorboard=True")
    assert run("second") == programs != set()
    assert list((folder / "first/profile").rglob("*.xplane.pb"))
    assert list((folder / "first/profile").rglob("perfetto_trace.json.gz"))
    shown, logged = scalars(folder / "first/tensorboard"), (folder / "first/metrics.jsonl").read_text()
    for line in map(json.loads, logged.splitlines()):
        step = line.pop("step")
        assert {name: shown[step, tag_of(name)] for name in line} == pytest.approx(line)
    assert (folder / "first/tensorboard/projector_config.pbtxt").is_file()


def test_it_loads(straight):
    model = fpsset.load(straight[0])
    assert model.dim == 32 and model.module.coreset_size == 3 and model.module.num_heads == 4
    table, _ = make_synthetic(6, 9, dim=32)
    _, vectors, norms, _ = model.aggregate(table.embeddings, table.norms, table.subject)
    assert vectors.shape == (6, 32) and norms.shape == (6,)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    step = max(int(p.name) for p in (straight[0] / "checkpoints").iterdir() if p.name.isdigit())
    again = fpsset.load(straight[0] / "checkpoints" / str(step))
    assert again.norm_scale == model.norm_scale
    with pytest.raises(fpsset.InputError, match="no such folder"):
        fpsset.load(straight[0] / "nothing")


@pytest.fixture(scope="module")
def disturbed(folder, small):
    """(workdir, step of the stop, stderr of the rest) of a run that is killed, then stopped, then ends."""
    workdir = folder / "disturbed"
    line = ("features.py", "--workdir", workdir, *small)
    process = start(*line)
    wait_for_step(process, workdir, 55)  # the checkpoint of step 25 is whole, since that of 50 was begun
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (workdir / "results.json").exists()
    process = start(*line)
    wait_for_step(process, workdir, 65)
    process.send_signal(signal.SIGTERM)
    _, err = finish(process, 130)
    assert "from step" in err
    stopped = int(err.split("stopped at step ")[1].split()[0])
    assert (workdir / f"checkpoints/{stopped}").is_dir() and not (workdir / "results.json").exists()
    return workdir, stopped, finish(start(*line))[1]


def test_resumed_after_sigkill_ends_bit_equal(disturbed, straight):
    workdir, _, _ = disturbed
    jax.tree.map(np.testing.assert_array_equal, saved_state(workdir, STEPS), saved_state(straight[0], STEPS))
    assert (workdir / "results.json").read_text() == (straight[0] / "results.json").read_text()
    assert steps_logged(workdir) == steps_logged(straight[0])


def test_sigterm_saves_and_the_same_command_continues(disturbed):
    _, stopped, err = disturbed
    assert 65 <= stopped < STEPS and f"from step {stopped}" in err


def test_the_same_command_again_and_eval_only_evaluate(small, straight):
    workdir, out, _ = straight
    before, elsewhere = (workdir / "metrics.jsonl").read_text(), workdir.parent / "elsewhere"
    lines = [
        ("features.py", "--verbose", "--workdir", workdir, *small),
        (
            "features.py:eval",
            "--verbose",
            "--workdir",
            elsewhere,
            f"--config.weights={workdir}",
            *small,
            "--config.model.num_heads=8",  # the checkpoint knows
        ),
    ]
    for line in lines:
        assert serve(*line)[0].replace("elsewhere", workdir.name) == out
    words = re.sub("<[^>]*>", " ", (elsewhere / "report/index.html").read_text()).split()
    assert words[words.index("model.num_heads") + 1] == "4"
    assert (workdir / "metrics.jsonl").read_text() == before
    assert not (elsewhere / "checkpoints").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(folder, small):
    workdir = folder / "diverged"
    line = ["features.py", "--workdir", workdir, *small, "--config.model.coreset_size=1"]
    _, err = serve(*line, "--config.optimizer.learning_rate=1e30", code=1)
    assert len([line for line in err.splitlines() if line.startswith("fpsset: step ")]) == 1
    assert "Traceback" not in err and not (workdir / "results.json").exists()
    # Nothing was saved, so the fix may be tried in the same workdir.
    serve(*line, "--config.steps=10", "--config.evaluation.resamples=0")
    assert (workdir / "results.json").exists()


# What a workdir with a model refuses; each test looks at one of the processes.
BAD_WORKDIR = {
    "other_config": (
        ["--config.model.coreset_size=5"],
        "another config's checkpoints (model.coreset_size 3",
    ),
    "eval_width": (
        [":eval", "--config.data.eval={folder}/wide.npz"],
        "embeddings are 64 wide but those of the model are 32",
    ),
    "eval_nothing": ([":eval", "--workdir={folder}/empty"], "empty: no such folder"),
    "mode": ([":evaluate"], "config.mode is 'evaluate'"),
}


@pytest.fixture(scope="module")
def refusals(folder, small, straight):
    write_features(folder / "wide.npz", make_synthetic(4, 0, dim=64)[0])
    lines = {}
    for name, (words, _) in BAD_WORKDIR.items():
        mode = words[0] if words[0].startswith(":") else ""
        words = [word.format(folder=folder) for word in words[bool(mode) :]]
        config = f"--config={ROOT}/configs/features.py{mode}"
        lines[name] = [config, f"--workdir={straight[0]}", *small, *words]
    return run_forked(lines)


def test_fewer_steps_than_were_trained_are_refused(small, straight):
    workdir, *_ = straight
    out, err = finish(start("features.py", "--workdir", workdir, *small, "--config.steps=50"), 2)
    assert out == "" and f"holds a run of {STEPS} steps, but config.steps is 50" in err
    assert max(steps_logged(workdir)) == STEPS


@pytest.mark.parametrize("name", BAD_WORKDIR)
def test_bad_input_leaves_a_workdir_alone(refusals, straight, name):
    assert_refused(refusals[name], BAD_WORKDIR[name][1])
    assert max(steps_logged(straight[0])) == STEPS


def test_the_official_checkpoint_on_the_official_layout(tmp_path, shared):
    """A published checkpoint on IJB's own files, with the TAR convention of published figures."""
    workdir = tmp_path / "run"
    out, err = serve(
        "ijbc.py:eval",
        "--verbose",
        f"--workdir={workdir}",
        f"--config.weights={shared}/parity/aggregator.ckpt",
        f"--config.data.eval={shared}/parity/ijb_mini/IJBC",
        "--config.evaluation.convention=nearest",
        "--config.evaluation.seed=3",
    )
    assert "Closed and open set, IJBC-features.pickle" in out and "the official set has 469375" in err
    results = json.loads((workdir / "results.json").read_text())
    assert set(results) == {"verification", "quality", "identification", "paired"}
    expected = json.loads((shared / "parity/ijb_mini/expected.json").read_text())
    plain = results["verification"]["norm_weighted"]
    assert {
        far: round(100 * plain[f"tar@far={far}"], 2) for far in expected["tar_at_far_percent"]
    } == expected["tar_at_far_percent"]
    assert results["identification"]["media_mean"]["rank@1"] == pytest.approx(
        expected["identification"]["top1"], abs=1e-6
    )
    assert results["verification"]["fpsset"]["tar@far=1e-3"] > 0.5
    for far in expected["tar_at_far_percent"]:
        low, value, high = (plain[f"tar{end}@far={far}"] for end in ("_low", "", "_high"))
        assert low <= value <= high
    assert plain["resamples"] == 200 and plain["resampling_seed"] == 3 and "(200 draws, seed 3)" in out
    pictures = "cmc det dir discard_input_norm discard_output_norm roc size video".split()
    forms = [f"{name}.{form}" for name in results for form in ("csv", "tex", "txt")]
    expected = {"index.html", "draws.npz", *forms, *(f"{name}.png" for name in pictures)}
    assert {p.name for p in (workdir / "report").iterdir()} == expected
