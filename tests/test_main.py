"""The command line as real processes: results, resuming after kills, and what bad input gives."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import fpsset
from fpsset.data.files import write_features
from fpsset.data.synthetic import make_synthetic
from fpsset.training.tensorboard import tag_of
from tests.training.test_tensorboard import scalars

ROOT = pathlib.Path(__file__).resolve().parents[1]
STEPS = 300
SMALL = [
    "--config.data.people=60",
    "--config.data.eval_people=40",
    "--config.data.dim=32",
    "--config.model.num_heads=4",
    "--config.batch_size=8",
    f"--config.steps={STEPS}",
    "--config.eval_every=50",
    "--config.log_every=5",
    "--config.data.holdout=0.3",
    "--config.evaluation.resamples=20",
]


def start(*arguments, config="quickstart.py") -> subprocess.Popen:
    command = [
        sys.executable,
        "-W",
        "error::UserWarning",
        "-m",
        "fpsset.main",
        f"--config={ROOT}/configs/{config}",
    ]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
    )


def finish(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    return out, err


def steps_logged(workdir) -> list[int]:
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def wait_for_step(process, workdir, step) -> None:
    deadline = time.monotonic() + 120
    while max(steps_logged(workdir), default=0) < step:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)


def final_state(workdir):
    path = workdir.absolute() / f"checkpoints/{STEPS}/state"
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return checkpointer.restore(path, restore_args=as_numpy)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def straight(folder):
    """A run from start to end, and what it printed."""
    workdir = folder / "straight"
    out, err = finish(start("--workdir", workdir, *SMALL))
    return workdir, out, err


def test_a_run_leaves_results_and_says_how_it_went(straight):
    workdir, out, err = straight
    results = json.loads((workdir / "results.json").read_text())
    assert list(results) == ["verification", "quality", "paired"]
    methods = results["verification"]
    assert list(methods) == ["mean", "norm_weighted", "media_mean", "fps", "fpsset"]
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
    logged = steps_logged(workdir)
    assert logged == sorted(logged) and logged[-1] == STEPS
    first = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[0])
    assert {"step", "loss", "accuracy", "grad_norm", "gamma", "norm", "templates_per_second"} == set(first)


def test_programs_are_kept_and_steps_traced(straight, folder):
    """The same run again: it finds its programs, and leaves a trace of two steps."""
    kept = folder / "programs"
    options = [*SMALL, "--config.steps=4", f"--config.compilation_cache={kept}", "--config.profile=2:3"]
    options.append("--config.tensorboard=True")
    finish(start("--workdir", folder / "first", *options))
    programs = {path.name for path in kept.iterdir() if not path.name.endswith("-atime")}
    finish(start("--workdir", folder / "second", *options))
    assert programs == {path.name for path in kept.iterdir() if not path.name.endswith("-atime")} != set()
    assert list((folder / "first/profile").rglob("*.xplane.pb"))
    assert list((folder / "first/profile").rglob("perfetto_trace.json.gz"))
    shown, logged = scalars(folder / "first/tensorboard"), (folder / "first/metrics.jsonl").read_text()
    for line in map(json.loads, logged.splitlines()):
        step = line.pop("step")
        assert {name: shown[step, tag_of(name)] for name in line} == pytest.approx(line)
    assert (folder / "first/tensorboard/projector_config.pbtxt").is_file()


def test_it_loads(straight):
    model = fpsset.load(straight[0])
    assert model.dim == 32 and model.model.coreset_size == 3 and model.model.num_heads == 4
    table, _ = make_synthetic(6, 9, dim=32)
    vectors, norms = model.aggregate(table.embeddings, table.norms, table.subject)
    assert vectors.shape == (6, 32) and norms.shape == (6,)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    step = max(int(p.name) for p in (straight[0] / "checkpoints").iterdir() if p.name.isdigit())
    again = fpsset.load(straight[0] / "checkpoints" / str(step))
    assert again.norm_scale == model.norm_scale
    with pytest.raises(fpsset.InputError, match="no such folder"):
        fpsset.load(straight[0] / "nothing")


def test_resumed_after_sigkill_ends_bit_equal(folder, straight):
    workdir = folder / "killed"
    for step in (70, 160):
        process = start("--workdir", workdir, *SMALL)
        wait_for_step(process, workdir, step)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert not (workdir / "results.json").exists()
    _, err = finish(start("--workdir", workdir, *SMALL))
    assert "from step" in err
    jax.tree.map(np.testing.assert_array_equal, final_state(workdir), final_state(straight[0]))
    assert (workdir / "results.json").read_text() == (straight[0] / "results.json").read_text()
    assert steps_logged(workdir) == steps_logged(straight[0])


def test_sigterm_saves_and_the_same_command_goes_on(folder, straight):
    workdir = folder / "stopped"
    process = start("--workdir", workdir, *SMALL)
    wait_for_step(process, workdir, 60)
    process.send_signal(signal.SIGTERM)
    _, err = finish(process, 130)
    stopped = int(err.split("stopped at step ")[1].split()[0])
    assert (workdir / f"checkpoints/{stopped}").is_dir()
    _, err = finish(start("--workdir", workdir, *SMALL))
    assert f"from step {stopped}" in err
    jax.tree.map(np.testing.assert_array_equal, final_state(workdir), final_state(straight[0]))


def test_the_same_command_again_and_eval_only_evaluate(straight):
    workdir, out, _ = straight
    before, elsewhere = (workdir / "metrics.jsonl").read_text(), workdir.parent / "elsewhere"
    processes = [
        start("--workdir", workdir, *SMALL),
        start(
            "--workdir",
            workdir.parent / "elsewhere",
            f"--config.weights={workdir}",
            *SMALL,
            config="quickstart.py:eval",
        ),
    ]
    for process in processes:
        assert finish(process)[0] == out
    assert (workdir / "metrics.jsonl").read_text() == before
    assert not (elsewhere / "checkpoints").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(folder):
    workdir = folder / "diverged"
    _, err = finish(start("--workdir", workdir, *SMALL, "--config.optimizer.learning_rate=1e30"), 1)
    assert len([line for line in err.splitlines() if line.startswith("fpsset: step ")]) == 1
    assert "Traceback" not in err and not (workdir / "results.json").exists()
    # Nothing was saved, so the mend may be tried in the same workdir.
    finish(start("--workdir", workdir, *SMALL, "--config.steps=10"))
    assert (workdir / "results.json").exists()


# Bad input: a process for each, forked from one that has imported what they need; each test looks at one.
FORKS = """
import json, os, pathlib, sys
import fpsset.evaluation.report, fpsset.loading, fpsset.training.loop
from fpsset.main import main

for name, arguments in json.load(sys.stdin).items():
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        pathlib.Path(sys.argv[1], name + ".code").write_text(str(code))
        continue
    for number, end in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{sys.argv[1]}/{name}.{end}", os.O_CREAT | os.O_WRONLY), number)
    sys.argv = ["fpsset.main", *arguments]  # which flags of a config there are is read from it
    code = main(sys.argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
"""
BAD = {
    "missing_file": (["--config.data.train={tmp}/none.npz"], "none.npz: no such file"),
    "not_an_npz": (["--config.data.train={tmp}/text.npz"], "text.npz: cannot be read as an .npz"),
    "missing_column": (["--config.data.train={tmp}/no_norms.npz"], "no_norms.npz: no column 'norms'"),
    "wrong_column": (["--config.data.train={tmp}/float_subject.npz"], "float_subject.npz: 'subject' must be"),
    "other_width_in_training": (
        ["--config.data.eval={tmp}/narrow.npz"],
        "narrow.npz: embeddings are 16 wide",
    ),
    "other_backbone": (
        ["--config.data.train={tmp}/ours.npz", "--config.data.eval={tmp}/theirs.npz"],
        "theirs.npz: its embeddings are of the backbone bbbb, the model's of aaaa",
    ),
    "unknown_person": (["--config.data.train={tmp}/unknown.npz"], "unknown.npz: row 5 of 'subject' is -1"),
    "nan": (["--config.data.train={tmp}/nan.npz"], "nan.npz: row 5 of 'embeddings'"),
    "zero_length": (["--config.data.eval={tmp}/zero.npz"], "row 5 of 'embeddings' has length zero"),
    "negative_norm": (
        ["--config.data.train={tmp}/negative.npz"],
        "row 5 of 'norms' is negative",
    ),
    "one_person": (["--config.data.eval={tmp}/alone.npz"], "alone.npz: column 'subject' holds 1 subject"),
    "template_of_two": (
        ["--config.data.eval={tmp}/shared.npz"],
        "template 0 spans subjects 0 and 1",
    ),
    "no_file_given": (["--config.data.train="], "config.data.train is empty"),
    "pairs": (["--config.data.eval={tmp}/sets.npz", "--config.data.pairs={tmp}/text.npz"], "text.npz: "),
    "pairs_of_nothing": (["--config.data.pairs={tmp}/text.npz"], "good.npz: no column 'template'"),
    "too_few_people": (["--config.data.holdout=0.1"], "good.npz: of the held-out people 4 impostor pairs"),
    "no_config": (["--config={tmp}/nope.py"], "nope.py"),
    "broken_config": (["--config={tmp}/broken.py"], "broken.py"),
    "no_workdir": (["--workdir="], "--workdir is missing"),
    "workdir_is_a_file": (["--workdir={tmp}/text.npz", "--config.data.holdout=0.5"], "cannot be written to"),
    "convention": (["--config.evaluation.convention=best"], "config.evaluation.convention is 'best'"),
    "no_ijb": (["--config.data.eval={tmp}"], "holds no *_face_tid_mid.txt"),
    "nan_in_config": (["--config.head.margin=nan"], "config.head.margin is nan; it must be finite"),
    "milestones": (["--config.optimizer.milestones=(-5,)"], "config.optimizer.milestones is (-5,)"),
    "words_for_numbers": (["--config.model.temperature=('a','b')"], "config.model.temperature is ('a', 'b')"),
    "weights_when_training": (["--config.weights=x"], "config.weights is 'x'; it must be empty"),
    "unknown_key": (["--config.model.coreset_sise=3"], 'Did you mean "coreset_size"'),
    "another_kind_of_run": (["--config.mode=extract"], "config.mode is 'extract'"),
    "unknown_section": (["--config.optimiser.decay=1"], 'Did you mean "optimizer"'),
    "wrong_type": (["--config.steps=many"], "--config.steps=many"),
    "coreset_of_none": (
        ["--config.model.coreset_size=0"],
        "config.model.coreset_size is 0; it must be at",
    ),
    "heads": (["--config.model.num_heads=5"], "config.model.num_heads is 5"),
    "unknown_flag": (["--wrkdir=x"], "wrkdir"),
    "stray_word": (["train"], "'train' is not an option"),
}
BAD_WORKDIR = {
    "other_config": (
        ["--config.model.coreset_size=5"],
        "another config's checkpoints (model.coreset_size 3",
    ),
    "eval_width": ([":eval", "--config.data.dim=64"], "embeddings are 64 wide but the model takes 32"),
    "eval_nothing": ([":eval", "--workdir={tmp}/empty"], "empty: no such folder"),
    "eval_coreset": (
        [":eval", "--config.model.coreset_size=5"],
        "trained with model.coreset_size 3, not 5",
    ),
    "mode": ([":evaluate"], "config.mode is 'evaluate'"),
}


@pytest.fixture(scope="module")
def failures(folder, straight):
    tmp = folder / "bad"
    tmp.mkdir()
    table, _ = make_synthetic(12, 0, dim=32)
    write_features(tmp / "good.npz", table)
    with np.load(tmp / "good.npz") as file:
        good = dict(file)

    def write(name, **change):
        columns = {**good, **change}
        np.savez(tmp / f"{name}.npz", **{key: value for key, value in columns.items() if value is not None})

    fifth = np.arange(len(table)) == 5
    (tmp / "text.npz").write_text("hello\n")
    (tmp / "broken.py").write_text("def get_config(:\n")
    write("sets", template=good["subject"] * 2 + good["media"] % 2)
    write("no_norms", norms=None)
    write("float_subject", subject=good["subject"].astype(float))
    write("narrow", embeddings=good["embeddings"][:, :16])
    write("ours", backbone=np.array("aaaa"))
    write("theirs", backbone=np.array("bbbb"))
    write("unknown", subject=np.where(fifth, -1, good["subject"]))
    write("nan", embeddings=np.where(fifth[:, None], np.nan, good["embeddings"]))
    write("zero", embeddings=np.where(fifth[:, None], 0, good["embeddings"]))
    write("negative", norms=np.where(fifth, -1, good["norms"]))
    write("alone", subject=np.zeros(len(table), int))
    write("shared", template=np.zeros(len(table), int))
    lines = {}
    for name, (arguments, _) in BAD.items():
        files = [f"--config.data.train={tmp}/good.npz", f"--config.data.eval={tmp}/good.npz"]
        lines[name] = ["features.py", f"--workdir={tmp}/{name}", *files, *arguments]
    for name, (arguments, _) in BAD_WORKDIR.items():
        mode = arguments[0] if arguments[0].startswith(":") else ""
        lines[name] = [f"quickstart.py{mode}", f"--workdir={straight[0]}", *SMALL, *arguments[bool(mode) :]]
    lines = {
        name: [f"--config={ROOT}/configs/{config}", *(word.format(tmp=tmp) for word in words)]
        for name, (config, *words) in lines.items()
    }
    said = tmp / "said"
    said.mkdir()
    subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", FORKS, said],
        input=json.dumps(lines),
        text=True,
        check=True,
        capture_output=True,
        timeout=300,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
    )
    outcomes = {
        name: [(said / f"{name}.{end}").read_text() for end in ("out", "err", "code")] for name in lines
    }
    return tmp, outcomes


@pytest.mark.parametrize("name", [*BAD, *BAD_WORKDIR])
def test_bad_input_gives_one_line_and_exit_code_2(failures, straight, name):
    tmp, outcomes = failures
    out, err, code = outcomes[name]
    message = {**BAD, **BAD_WORKDIR}[name][1]
    assert code == "2", err
    assert out == "" and err.startswith("fpsset: ") and err.count("\n") == 1
    assert message in err
    assert not (tmp / name).exists()
    assert max(steps_logged(straight[0])) == STEPS


def test_the_official_checkpoint_on_the_official_layout(tmp_path, shared):
    """A published checkpoint on IJB's own files, under the convention of published figures."""
    workdir = tmp_path / "run"
    out, err = finish(
        start(
            f"--workdir={workdir}",
            f"--config.weights={shared}/parity/aggregator.ckpt",
            f"--config.data.eval={shared}/parity/ijb_mini/IJBC",
            "--config.evaluation.convention=nearest",
            "--config.evaluation.seed=3",
            config="ijbc.py:eval",
        )
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
    pictures = "cmc det discard_input_norm discard_output_norm roc size video".split()
    forms = [f"{name}.{form}" for name in results for form in ("csv", "tex", "txt")]
    expected = {"index.html", "draws.npz", *forms, *(f"{name}.png" for name in pictures)}
    assert {p.name for p in (workdir / "report").iterdir()} == expected
