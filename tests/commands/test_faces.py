"""fpsset faces and fetch: a feature file, a sheet and a list from a folder, and refusals."""

import json

import numpy as np
import pytest

from fpsset.commands import cli
from fpsset.commands.contact_sheet import _clock
from fpsset.data.files import read_features
from tests.commands.backbone import write_onnx
from tests.commands.lines import refused
from tests.images.images import picture

ONNX = ("--color-order", "bgr", "--mean", 127.5, "--std", 127.5)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Aligned crops of two people, which need no detector."""
    root = tmp_path_factory.mktemp("crops")
    for person in ("anna", "ben"):
        (root / "people" / person).mkdir(parents=True)
        for i in range(3):
            picture(i + 10 * (person == "ben")).save(root / "people" / person / f"<b>{i}.png")
    (root / "people/ben/torn.png").write_text("no image")
    write_onnx(root / "r.onnx")
    return root


def run(*arguments) -> int:
    return cli.main(list(map(str, arguments)))


def test_features_a_sheet_and_a_list(crops, tmp_path, capsys):
    out = tmp_path / "f.npz"
    assert run("faces", crops / "people", "--out", out, "--weights", crops / "r.onnx", *ONNX, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["faces"] == 6 and said["people"] == ["anna", "ben"] and said["media"] == 6
    assert [one["kind"] for one in said["left_out"]] == ["unreadable"]
    table = read_features(out)
    assert table.named("subject").tolist() == ["anna"] * 3 + ["ben"] * 3
    assert table.subject.tolist() == [0, 0, 0, 1, 1, 1] and np.isnan(table.time).all()
    np.testing.assert_array_equal(table.box, [[0, 0, 112, 112]] * 6)
    page = (tmp_path / "f.html").read_text()
    assert page.count("<img") == 6 and "&lt;b&gt;0.png" in page and "<b>0.png" not in page
    assert "torn.png: not a whole image" in (tmp_path / "f.left_out.txt").read_text()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.html", "f.left_out.txt", "f.npz"]
    again = ("faces", crops / "people/anna", "--one-person", "--out", tmp_path / "g.parquet", "--no-sheet")
    assert run(*again, "--weights", crops / "r.onnx", *ONNX) == 0
    assert "3 faces in 3 photos, 1 person" in capsys.readouterr().out
    assert (read_features(tmp_path / "g.parquet").subject == 0).all()
    assert not (tmp_path / "g.html").exists() and not (tmp_path / "g.left_out.txt").exists()


def test_known_people_keep_their_names(crops, tmp_path, capsys):
    weights = ("--weights", crops / "r.onnx", *ONNX, "--json")
    for number, name in enumerate(("anna", "ben")):
        (tmp_path / "people" / name).mkdir(parents=True)
        picture(number).save(tmp_path / "people" / name / "a.png")
    picture(1).save(tmp_path / "loose.png")
    people, loose, known = tmp_path / "people", tmp_path / "loose.png", tmp_path / "known.npz"
    assert run("faces", people, "--out", known, *weights) == 0
    for source, names in ((loose, ["ben"]), (people, ["anna", "ben"])):
        assert run("faces", source, "--out", tmp_path / "f.npz", *weights, "--known", known) == 0
        assert read_features(tmp_path / "f.npz").named("subject").tolist() == names
    assert run("faces", loose, "--out", tmp_path / "nobody.npz", *weights) == 0
    nobody = ("--out", tmp_path / "g.npz", *weights, "--known", tmp_path / "nobody.npz")
    assert "is negative in every row, so it names nobody" in refused(capsys, "faces", loose, *nobody)


def test_refusals(crops, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    picture(0, 200).save(tmp_path / "photo.png")
    source, out = crops / "people", ("--out", tmp_path / "f.npz")
    weights = ("--weights", crops / "r.onnx", *ONNX)
    for arguments, problem in [
        ((source, *out), "give --weights"),
        ((source, *out, "--weights", crops / "r.onnx"), "--color-order, --mean, --std"),
        (
            (source, *out, *weights[:4]),
            "give --preset (insightface, adaface, cvlface, facenet, sface), or --mean",
        ),
        ((source, "--out", tmp_path / "f.txt", *weights), "ends so"),
        ((tmp_path / "none", *out, *weights), "no such photo"),
        ((tmp_path / "photo.png", *out, *weights), "fpsset fetch yunet"),
        ((tmp_path / "photo.png", *out, *weights, "--detector", tmp_path / "y.onnx"), "y.onnx"),
        ((source, *out, *weights, "--folder-is-video"), "is for aligned crops"),
        ((source, *out, *weights, "--rate", 0), "--rate is 0"),
        ((source, *out, *weights, "--least-side", 0), "--least-side is 0"),
        ((source, *out, *weights, "--sheet", tmp_path / "a.png"), "ends in .html"),
    ]:
        assert problem in refused(capsys, "faces", *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
    assert "not one of 'yunet', 'sface'" in refused(capsys, "fetch", "buffalo")


def test_clock():
    assert [_clock(seconds) for seconds in (0, 59.96, 75.25, 3675)] == [
        "0:00.0",
        "0:59.9",
        "1:15.2",
        "1:01:15.0",
    ]
