"""fpsset fit, and the fitted models in every other command."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import fpsset
from fpsset.commands.cli import main
from fpsset.commands.runs import run_config
from fpsset.config import base_config
from fpsset.data.files import read_features, write_features
from fpsset.data.synthetic import make_synthetic
from tests.commands.lines import process, refused

DIM = 16
FEW = {"stills": (1, 5), "clips": (0, 1), "frames": (2, 3)}  # faces of a person
MODELS = ("posterior", "whitened")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Features to fit to and to use, whose sets have one padded size, and both models."""
    folder = tmp_path_factory.mktemp("fit")
    write_features(folder / "train.npz", make_synthetic(40, 0, DIM, **FEW)[0])
    table = make_synthetic(20, 1, DIM, **FEW)[0]
    write_features(folder / "f.npz", table)
    for person in (0, 1):
        write_features(folder / f"{person}.npz", table.take(table.subject == person))
    said = process("fit", folder / "train.npz", folder / "posterior").out
    assert said == f"{folder}/posterior: posterior, fitted to train.npz; 3 picks, embeddings 16 wide\n"
    assert main(["fit", f"{folder}/train.npz", f"{folder}/whitened", "--model", "whitened"]) == 0
    return folder


def run(capsys, *arguments) -> str:
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("name", MODELS)
def test_what_is_saved_is_what_is_fitted(folder, name):
    loaded, fitted = fpsset.load(folder / name), fpsset.fit(folder / "train.npz", name)
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, fitted.variables)
    assert loaded.card == fitted.card and loaded.digest == fitted.digest


@pytest.mark.parametrize("name", MODELS)
def test_commands_take_it_saved_or_fitted_on_the_spot(folder, tmp_path, capsys, name):
    table, model = read_features(folder / "f.npz"), fpsset.load(folder / name)
    expected = model.aggregate(table.embeddings, table.norms, table.subject, media=table.media)
    fit = ("--fit", folder / "train.npz")
    for given, options in ((folder / name, ()), (name, fit)):
        run(capsys, "aggregate", given, folder / "f.npz", tmp_path / "d.npz", *options)
        gallery = model.load_gallery(tmp_path / "d.npz")
        np.testing.assert_allclose(gallery.descriptors, expected.descriptors, atol=1e-6)
        said = json.loads(run(capsys, "select", given, folder / "f.npz", "--set", 2, "--json", *options))
        rows = np.flatnonzero(table.subject == 2)
        assert rows[said["picks"]].tolist() == expected.coreset[2][expected.coreset[2] >= 0].tolist()


@pytest.mark.parametrize("name", MODELS)
def test_calibrate_and_verify(folder, tmp_path, capsys, name):
    run(capsys, "fit", folder / "train.npz", tmp_path / "m", "--model", name, "--picks", 2)
    assert fpsset.load(tmp_path / "m").module.coreset_size == 2
    calibrate = ("calibrate", tmp_path / "m", folder / "f.npz", "--far", 0.01, "--resamples", 20)
    assert "threshold" in run(capsys, *calibrate)
    decide = ("verify", folder / "0.npz", folder / "1.npz", "--model", tmp_path / "m", "--json")
    decision = json.loads(run(capsys, *decide))
    assert -1 <= decision["score"] <= 1
    assert decision["accepted"] == (decision["score"] > decision["threshold"])
    same = ("verify", folder / "0.npz", folder / "0.npz", "--model", tmp_path / "m", "--json")
    assert json.loads(run(capsys, *same))["accepted"]


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_one_is_the_model_without_media(folder, tmp_path, capsys, name):
    run(capsys, "export", folder / name, tmp_path / "m.hlo", "--platforms", "cpu")
    exported = jax.export.deserialize((tmp_path / "m.hlo").read_bytes())
    table, model = read_features(folder / "f.npz"), fpsset.load(folder / name)
    ids = np.unique(table.subject)
    expected = model.aggregate(table.embeddings, table.norms, table.subject)
    rows = [table.subject == person for person in ids]
    sets = fpsset.pad_sets([table.embeddings[r] for r in rows], [table.norms[r] for r in rows])
    found = exported.call(sets.embeddings, sets.norms, sets.mask)
    np.testing.assert_allclose(found["descriptor"], expected.descriptors, atol=1e-5)
    np.testing.assert_allclose(found["norm"], expected.norms, rtol=1e-4)


def test_refusals(folder, tmp_path, capsys):
    train, out = folder / "train.npz", tmp_path / "d.npz"
    aggregate = ("aggregate", "posterior", folder / "f.npz", out)
    assert "give them by --fit FEATURES" in refused(capsys, *aggregate)
    assert "none.npz: no such file" in refused(capsys, *aggregate, "--fit", "none.npz")
    for other in ("plain", folder / "posterior"):
        said = refused(capsys, "aggregate", other, folder / "f.npz", out, "--fit", train)
        assert f"--fit is for the models posterior and whitened; leave it out for {other}" in said
    wide = tmp_path / "wide.npz"
    write_features(wide, make_synthetic(4, 0, 2 * DIM)[0])
    assert "32 wide" in refused(capsys, "aggregate", "whitened", wide, out, "--fit", train)
    assert not out.exists()
    fit = ("fit", train)
    for parent in (folder, folder.parent, train):
        assert f"{parent}: contains FEATURES; give another OUT" in refused(capsys, *fit, parent)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("mine")
    said = refused(capsys, *fit, tmp_path / "kept")
    assert "kept: exists and is not a folder of converted weights; give another folder" in said
    assert [path.read_text() for path in (tmp_path / "kept").iterdir()] == ["mine"]
    assert "'plain' is not one of" in refused(capsys, *fit, tmp_path / "m", "--model", "plain")
    assert "no such file" in refused(capsys, "fit", "none.npz", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_saved_model_is_replaced(folder, tmp_path, capsys):
    for name in MODELS:
        run(capsys, "fit", folder / "train.npz", tmp_path / "m", "--model", name)
        assert fpsset.load(tmp_path / "m").card.model == name


def test_every_command_leaves_out_faces_of_nobody_known(folder, tmp_path, capsys):
    table = read_features(folder / "train.npz")
    half = dataclasses.replace(table, subject=np.where(table.subject < 20, table.subject, -1))
    write_features(tmp_path / "half.npz", half)
    write_features(tmp_path / "named.npz", table.take(table.subject < 20))
    for name in ("half", "named"):
        features = tmp_path / f"{name}.npz"
        run(capsys, "fit", features, tmp_path / name)
        run(capsys, "calibrate", tmp_path / name, features, "--far", 0.01, "--resamples", 0)
        run(capsys, "aggregate", tmp_path / name, features, tmp_path / f"{name}_d.npz", "--by", "subject")
    half, named = (fpsset.load(tmp_path / name) for name in ("half", "named"))
    assert half.digest == named.digest
    galleries = [half.load_gallery(tmp_path / f"{name}_d.npz") for name in ("half", "named")]
    for one, other in zip(*galleries, strict=True):
        np.testing.assert_array_equal(one, other)
    thresholds = [
        json.loads((tmp_path / name / "thresholds.json").read_text())["thresholds"]
        for name in ("half", "named")
    ]
    assert thresholds[0]["0.01"]["tar"] == thresholds[1]["0.01"]["tar"]


def test_evaluating_the_training_people_is_said(folder, tmp_path, capsys, monkeypatch):
    def evaluated(*_):
        raise fpsset.InputError("evaluated")

    monkeypatch.setattr("fpsset.evaluation.evaluator.evaluate", evaluated)
    for name, warned in (("train", True), ("f", False)):
        config = base_config()
        config.mode, config.weights = "eval", str(folder / "posterior")
        config.data.eval = str(folder / f"{name}.npz")
        with pytest.raises(fpsset.InputError, match="evaluated"):
            run_config(config, str(tmp_path))
        said = capsys.readouterr().err
        assert warned == ("warning: the model was trained on the faces of train.npz" in said)
