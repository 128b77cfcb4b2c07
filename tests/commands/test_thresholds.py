"""Calibrated thresholds, and decisions by them, from the command line."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from fpsset.commands import cli
from fpsset.data.files import read_features, write_features
from fpsset.data.synthetic import make_synthetic
from fpsset.evaluation.protocols import make_protocol
from fpsset.evaluation.scoring import pair_scores
from fpsset.face_set import group_rows
from fpsset.inference.descriptors import describe_one
from fpsset.inference.loading import load
from fpsset.models.pooling import baselines
from tests.commands.lines import process, refused
from tests.few_people import DIM, make_faces, save_model


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A model with a threshold, the scores it was calibrated on, and the files of three sets."""
    root = tmp_path_factory.mktemp("thresholds")
    table = make_faces()
    write_features(root / "faces.npz", table)
    for seed in (0, 1):
        save_model(root / f"model{seed}", seed)
    out = process("calibrate", root / "model0", root / "faces.npz", "--far", "0.01", "--resamples", "50").out
    model = load(root / "model0")
    protocol = make_protocol(table)
    _, vectors, _, _ = model.aggregate(
        table.embeddings[protocol.sets.rows],
        table.norms[protocol.sets.rows],
        np.repeat(np.arange(48), protocol.sets.sizes()),
        media=table.media[protocol.sets.rows],
    )
    for name, template in (("a", 0), ("b", 1), ("c", 4)):
        rows = protocol.sets.rows[slice(*protocol.sets.starts[template : template + 2])]
        write_features(root / f"{name}.npz", table.take(rows))
    return root, out, vectors, protocol


def test_a_threshold_holds_its_far(calibrated):
    root, out, vectors, protocol = calibrated
    held = json.loads((root / "model0/thresholds.json").read_text())
    kept = held["thresholds"]["0.01"]
    scores = pair_scores(vectors, protocol.pairs)
    far = np.mean(scores[~protocol.pairs.same] > kept["threshold"])
    assert far == pytest.approx(kept["achieved_far"], abs=1.5 / 1104) and kept["achieved_far"] <= 0.01
    assert kept["threshold_low"] <= kept["threshold"] <= kept["threshold_high"]
    assert kept["impostor_pairs"] == 1104 and kept["accepted_impostors"] == 11
    assert held["model"] == load(root / "model0").digest and len(kept["data_fingerprint"]) == 16
    assert f"threshold {kept['threshold']:.4f} (" in out and "11 impostor pairs are accepted" in out
    assert load(root / "model0").dim == DIM  # thresholds.json does not disturb the weights


def test_two_sets_are_compared_at_the_threshold(calibrated, capsys):
    root, _, vectors, _ = calibrated
    kept = json.loads((root / "model0/thresholds.json").read_text())["thresholds"]["0.01"]
    answer = json.loads(
        process("verify", root / "a.npz", root / "b.npz", "--model", root / "model0", "--json").out
    )
    assert answer["score"] == pytest.approx(float(vectors[0] @ vectors[1]), abs=2e-3)  # float16 files
    assert answer["accepted"] == (answer["score"] > kept["threshold"])
    assert {name: answer[name] for name in ("threshold", "far", "threshold_low")} == {
        name: kept[name] for name in ("threshold", "far", "threshold_low")
    }
    assert cli.main(["verify", *(str(root / f"{n}.npz") for n in "ac"), "--model", str(root / "model0")]) == 0
    out = capsys.readouterr().out
    score = float(vectors[0] @ vectors[4])
    assert out.startswith("accepted: score " if score > kept["threshold"] else "refused: score ")
    assert "for a FAR of 0.01 (1104 impostor pairs of faces.npz)" in out


def test_sets_of_two_backbones_are_not_compared(calibrated, capsys, tmp_path):
    root, *_ = calibrated
    for name, backbone in (("a", "aaaa"), ("b", "bbbb")):
        write_features(
            tmp_path / f"{name}.npz",
            dataclasses.replace(read_features(root / f"{name}.npz"), backbone=backbone),
        )
    call = ["verify", tmp_path / "a.npz", tmp_path / "b.npz", "--model", root / "model0"]
    assert cli.main(list(map(str, call))) == 2
    said = f"b.npz: its embeddings come from the backbone bbbb, those of {tmp_path}/a.npz from aaaa"
    assert said in capsys.readouterr().err


def test_faces_that_the_model_was_trained_on(calibrated, capsys, tmp_path):
    root, *_ = calibrated
    faces = root / "faces.npz"
    save_model(tmp_path / "model", 0, train_fingerprint=read_features(faces).fingerprint())
    call = ["calibrate", tmp_path / "model", faces, "--far", "0.01", "--resamples", "0"]
    assert cli.main(list(map(str, call))) == 0
    said = "warning: the model was trained on the faces of faces.npz"
    assert capsys.readouterr().err.startswith(said)
    (kept,) = json.loads((tmp_path / "model/thresholds.json").read_text())["thresholds"].values()
    assert kept["warning"].startswith("the model was trained on the faces of faces.npz")
    call = ["verify", root / "a.npz", root / "b.npz", "--model", tmp_path / "model"]
    assert cli.main(list(map(str, call))) == 0
    assert capsys.readouterr().err.startswith(said)


def test_thresholds_of_several_fars_and_of_another_model(calibrated, capsys, tmp_path):
    root, *_ = calibrated
    shutil.copytree(root / "model0", tmp_path / "model")
    sets = root / "a.npz", root / "b.npz", "--model", tmp_path / "model"
    call = ["calibrate", tmp_path / "model", root / "faces.npz", "--far", "0.1", "--resamples", "0"]
    assert cli.main(list(map(str, call))) == 0
    assert "no intervals" in capsys.readouterr().out
    assert "several thresholds; give --far as one of 0.01, 0.1" in refused(capsys, "verify", *sets)
    assert "no threshold for a FAR of 0.2" in refused(capsys, "verify", *sets, "--far", 0.2)
    assert cli.main(list(map(str, ["verify", *sets, "--far", 0.1]))) == 0
    capsys.readouterr()
    path = tmp_path / "model/thresholds.json"
    path.write_text(path.read_text().replace('"threshold":', '"thresh":'))
    assert "differs from what was saved" in refused(capsys, "verify", *sets)
    shutil.copy(root / "model0/thresholds.json", root / "model1")
    err = refused(capsys, "verify", *sets[:2], "--model", root / "model1")
    assert "calibrate again" in err and load(root / "model1").digest in err


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("calibrate model0 nowhere.npz", "nowhere.npz: no such folder or file"),
        ("calibrate model0 faces.npz --far 0", "--far is 0"),
        ("calibrate model0 faces.npz --far many", "'many' is not a valid float"),
        ("calibrate model0 faces.npz --far 1e-5", "1104 impostor pairs are too few"),
        ("calibrate model0 faces.npz --resamples -1", "--resamples is -1"),
        ("calibrate nowhere faces.npz", "no such model"),
        ("calibrate model0 wide.npz", "embeddings are 8 wide"),
        ("calibrate model0 a.npz", "holds no impostor pair"),
        ("verify a.npz", "Missing argument 'B'"),
        ("verify a.npz b.npz --far 0.1", "plain.thresholds.json: no such file; calibrate a threshold"),
        ("verify a.npz b.npz --model whitened", "--fit FEATURES"),
        ("verify a.npz b.npz --weights w", "takes no --weights"),
        (
            "verify a.npz faces.npz --model model0",
            "holds 48 sets (0, 1, 2, 3, 4, 5, 6, 7, ...); give one set, or --merge if all are of one",
        ),
        ("verify a.npz nowhere.npz --model model0", "no such folder or file"),
        ("verify wide.npz b.npz --model model0", "embeddings are 8 wide"),
        ("verify a.npz b.npz --model fresh --far 0.1", "no such file; calibrate a threshold"),
    ],
)
def test_bad_input(calibrated, capsys, monkeypatch, call, says):
    root, *_ = calibrated
    monkeypatch.chdir(root)
    if "wide" in call:
        table = make_synthetic(4, 1, 8)[0]
        write_features("wide.npz", table.take(table.subject == 0) if "verify" in call else table)
    if "fresh" in call:
        save_model(root / "fresh", 2)
    assert says in refused(capsys, *call.split())


@pytest.mark.parametrize("pooling", ["plain", "mean", "norm_weighted", "media_mean", "fps"])
def test_plain_poolings_are_models(calibrated, capsys, monkeypatch, tmp_path, pooling):
    """Score without a threshold, threshold, decision; each pooling is that of the evaluation's baseline."""
    root, *_ = calibrated
    monkeypatch.chdir(tmp_path)

    def run(*words):
        assert cli.main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    sets = "verify", root / "a.npz", root / "c.npz", "--model", pooling
    bare = run(*sets)
    assert bare["accepted"] is None and bare["threshold"] is None
    tables = [read_features(root / f"{name}.npz") for name in "ac"]
    found = [
        describe_one(
            baselines()[{"plain": "norm_weighted"}.get(pooling, pooling)],
            {},
            group_rows(t.embeddings, t.norms, np.zeros(len(t)), t.media)[1],
        ).vectors[0]
        for t in tables
    ]
    assert bare["score"] == pytest.approx(float(found[0] @ found[1]), abs=1e-5)
    kept = run("calibrate", pooling, root / "faces.npz", "--far", 0.01, "--resamples", 0)
    assert kept["file"] == f"{pooling}.thresholds.json"
    decided = run(*sets)
    assert decided["score"] == bare["score"]
    assert decided["accepted"] == (bare["score"] > kept["threshold"])
    other = {"plain": "mean", "norm_weighted": "mean"}.get(pooling, "plain")
    shutil.copy(f"{pooling}.thresholds.json", f"{other}.thresholds.json")
    assert "calibrate again" in refused(capsys, *sets[:3], "--model", other)


def test_sets_of_one_person_are_merged_on_request(calibrated, capsys):
    root, *_ = calibrated
    call = ["verify", root / "faces.npz", root / "a.npz", "--merge"]
    assert cli.main(list(map(str, call))) == 0
    out, err = capsys.readouterr()
    assert out.startswith("score ") and err == "no threshold: fpsset calibrate plain FEATURES finds one\n"


def test_a_model_that_is_a_file_keeps_its_thresholds_beside_it(tmp_path):
    from fpsset.evaluation.calibration import thresholds_file

    path = tmp_path / "model.ckpt"
    path.touch()
    assert thresholds_file(path) == tmp_path / "model.ckpt.thresholds.json"
