"""Runs that fit the default model, as a program: files, repetition, evaluation and refusals."""

import json

import numpy as np
import pytest

import fpsset
from fpsset.data.files import read_features, write_features
from fpsset.data.synthetic import make_synthetic
from tests.forked import assert_refused, run_forked
from tests.runs import ROOT
from tests.served import serve

METHODS = ["mean", "norm_weighted", "media_mean", "fps", "whitened", "fpsset"]
DIM = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("closed")
    few = {"stills": (2, 5), "clips": (0, 1), "frames": (2, 3)}  # so that all sets are padded to one size
    for name, people, seed in (("train", 60, 0), ("other", 60, 5), ("eval", 30, 1)):
        write_features(folder / f"{name}.npz", make_synthetic(people, seed, DIM, **few)[0])
    return folder


def arguments(folder, workdir, *options) -> list[str]:
    return [
        f"--workdir={folder / workdir}",
        f"--config.data.train={folder}/train.npz",
        f"--config.data.eval={folder}/eval.npz",
        *("--config.data.holdout=0.3", "--config.evaluation.resamples=10"),
        *("--config.evaluation.metric=tar@far=1e-2", "--config.batch_size=8"),
        *options,
    ]


def finish(folder, workdir, *options, config="features.py") -> tuple[str, str]:
    return serve(config, *arguments(folder, workdir, *options))


@pytest.fixture(scope="module")
def run(folder):
    """(Workdir, stdout, stderr) of a run."""
    return folder / "run", *finish(folder, "run")


def files(workdir):
    """When each file of a model and its metrics was written."""
    kept = ("checkpoints", "whitened", "metrics.jsonl")
    paths = [path for path in workdir.rglob("*") if path.relative_to(workdir).parts[0] in kept]
    return {str(path): path.stat().st_mtime_ns for path in paths if path.is_file()}


def test_a_run_fits_evaluates_and_reports(run):
    workdir, out, err = run
    results = json.loads((workdir / "results.json").read_text())
    assert list(results["verification"]) == METHODS
    assert all(f"\n{name} " in out for name in METHODS)
    assert [path.name for path in (workdir / "checkpoints").iterdir()] == ["0"]
    assert "validation_tar@far=1e-2" in err and "held-out people" in err
    (line,) = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    assert line["step"] == 0 and 0 < line["validation_tar@far=1e-2"] <= 1
    assert (workdir / "report/index.html").is_file()


def test_the_run_fits_what_fit_fits(folder, run):
    """To everyone, with the same scale of norms."""
    table = read_features(folder / "eval.npz")
    for path, name in ((run[0], "posterior"), (run[0] / "whitened", "whitened")):
        loaded, fitted = fpsset.load(path), fpsset.fit(folder / "train.npz", name)
        assert loaded.card.model == name and loaded.train_fingerprint == fitted.train_fingerprint
        for media in (table.media, None):
            one, other = (
                model.aggregate(table.embeddings, table.norms, table.subject, media=media)
                for model in (loaded, fitted)
            )
            np.testing.assert_allclose(other.descriptors, one.descriptors, atol=1e-5)
            np.testing.assert_array_equal(other.coreset, one.coreset)


def test_the_same_command_again_and_eval_only_evaluate(folder, run):
    workdir, out, _ = run
    before, results = files(workdir), (workdir / "results.json").read_text()
    again, err = finish(folder, "run")
    assert again == out and "fitting" not in err
    assert files(workdir) == before and (workdir / "results.json").read_text() == results
    for number, model in enumerate((workdir, workdir / "checkpoints/0")):
        elsewhere = f"elsewhere_{number}"
        finish(folder, elsewhere, f"--config.weights={model}", config="features.py:eval")
        assert (folder / elsewhere / "results.json").read_text() == results
        assert not (folder / elsewhere / "checkpoints").exists()


# Name of the process -> (option, what it says).
OTHERS = {
    "another_model": ("--config.model.gamma=1.0", "model.gamma 2.0, now 1.0"),
    "other_faces": ("--config.data.train={folder}/other.npz", "training faces"),
    "a_trained_model": (
        "--config.model.name=face_coreset_net",
        "model.name 'posterior', now 'face_coreset_net'",
    ),
}


@pytest.fixture(scope="module")
def refusals(folder, run):
    config = f"--config={ROOT}/configs/features.py"
    lines = {
        name: [config, *arguments(folder, "run", option.format(folder=folder))]
        for name, (option, _) in OTHERS.items()
    }
    return files(run[0]), run_forked(lines)


@pytest.mark.parametrize("name", OTHERS)
def test_another_model_or_other_faces_are_refused_in_the_workdir(refusals, run, name):
    before, ended = refusals
    assert_refused(ended[name], OTHERS[name][1])
    assert "holds another config's checkpoints" in ended[name].err
    assert files(run[0]) == before


def test_a_trained_model_meets_the_same_rival(folder, run):
    """FaceCoresetNet's run has the method 'whitened' too, with the same figures."""
    options = ("--config.model.name=face_coreset_net", "--config.steps=2")
    finish(folder, "trained", *options)
    mine, theirs = (
        json.loads((path / "results.json").read_text())["verification"]
        for path in (folder / "trained", run[0])
    )
    assert list(mine) == METHODS and mine["whitened"] == theirs["whitened"]
    assert mine["fpsset"] != theirs["fpsset"]
