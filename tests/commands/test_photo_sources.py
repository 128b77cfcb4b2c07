"""select, aggregate, calibrate and verify take photos as they take features."""

import json
import shutil

import numpy as np
import pytest

from fpsset.commands import cli
from fpsset.images.aligned_faces import ARCFACE_112
from tests.commands.lines import refused
from tests.images.photos import YUNET, photo
from tests.torch_files import aggregator_state, save


@pytest.fixture(scope="module")
def people(shared, tmp_path_factory):
    """Two photos each of two people, in one of which the other one is larger; and the options for them."""
    root = tmp_path_factory.mktemp("people")
    for name, own, other in (("anna", 0, 1), ("ben", 1, 0)):
        (root / "all" / name).mkdir(parents=True)
        for number in range(2):
            placed = [(f"person_0{own}/still_{number}.png", (150, 150), 120, 0)]
            placed += [(f"person_0{other}/still_2.png", (450, 280), 200, 0)] * number
            photo(shared / "faces", placed, number)[0].save(root / "all" / name / f"IMG {number}.jpg")
    save(root / "a.ckpt", {"state_dict": aggregator_state(512), "hyper_parameters": {"coreset_size": 3}})
    models = shared / "models"
    given = {"weights": models / "mobilefacenet_512.onnx", "color-order": "bgr", "mean": 127, "std": 128}
    given["detector"] = shared / YUNET
    return root, [word for name, value in given.items() for word in (f"--{name}", value)]


def run(capsys, *arguments) -> str:
    capsys.readouterr()
    code = cli.main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def test_select_and_aggregate(people, tmp_path, capsys):
    root, options = people
    said = json.loads(run(capsys, "select", "plain", root / "all/anna", *options, "--json"))
    assert said["title"] == "anna" and [path[-9:] for path in said["faces"]] == ["IMG 0.jpg", "IMG 1.jpg"]
    assert min(said["agreement"]) > 0.3  # the other one was not taken
    sheet = tmp_path / "ben.html"
    run(capsys, "select", "plain", root / "all", "--set", "ben", *options, "--sheet", sheet)
    assert sheet.read_text().count("data:image/jpeg") == 2
    assert "holds 2 sets (anna, ben)" in refused(capsys, "select", "plain", root / "all", *options)
    run(capsys, "aggregate", "plain", root / "all", tmp_path / "d.npz", *options)
    with np.load(tmp_path / "d.npz") as found:
        assert found["ids"].tolist() == ["anna", "ben"] and found["descriptors"].shape == (2, 512)
        assert found["descriptors"][0] @ found["descriptors"][1] < 0.3
    assert "give --weights" in refused(capsys, "aggregate", "plain", root / "all", tmp_path / "d.npz")


def test_photos_with_a_list_of_landmarks_need_no_detector(people, tmp_path, capsys):
    root, options = people
    shutil.copytree(root / "all", tmp_path / "loose")
    (tmp_path / "loose/meta").mkdir()
    points = " ".join(f"{x} {y}" for x, y in ARCFACE_112 + 94)  # of the face of 120 pixels, nearly
    lines = [f"{name}/IMG_0.jpg {points} 0.9\n" for name in ("anna", "ben")]
    for name in ("anna", "ben"):
        (tmp_path / "loose" / name / "IMG 0.jpg").rename(tmp_path / "loose" / name / "IMG_0.jpg")
    (tmp_path / "loose/meta/loose_name_5pts_score.txt").write_text("".join(lines))
    without = options[: options.index("--detector")]
    run(capsys, "aggregate", "plain", tmp_path / "loose", tmp_path / "d.npz", *without)
    run(capsys, "aggregate", "plain", root / "all", tmp_path / "e.npz", *options)
    with np.load(tmp_path / "d.npz") as listed, np.load(tmp_path / "e.npz") as found:
        assert listed["ids"].tolist() == ["anna", "ben"]
        assert ((listed["descriptors"] * found["descriptors"]).sum(1) > 0.5).all()


def test_calibrate_and_verify(people, capsys):
    root, options = people
    run(capsys, "calibrate", root / "a.ckpt", root / "all", "--far", 0.5, "--resamples", 0, *options)
    args = ("--model", root / "a.ckpt", *options, "--json")
    said = json.loads(run(capsys, "verify", root / "all/anna/IMG 0.jpg", root / "all/anna", *args))
    other = json.loads(run(capsys, "verify", root / "all/anna", root / "all/ben", *args))
    assert said["score"] > other["score"]
