"""Everything that a run needs and cannot find is listed, before anything is read."""

import pathlib
import runpy

import pytest

from fpsset.datasets.checklist import require_files
from fpsset.errors import InputError, MissingInputs

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


def checklist(mode: str, **weights) -> list[str]:
    config = runpy.run_path(str(CONFIGS / "ijbc.py"))["get_config"](mode)
    config.update(weights)
    with pytest.raises(MissingInputs) as error:
        require_files(config, config.weights)
    return str(error.value).splitlines()


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_training_on_images_lists_images_backbone_and_protocol():
    first, *items, offer, line = checklist("images")
    assert first == "of the 4 things that this run reads, nothing was found:"
    for item, words in zip(
        items,
        (
            (
                "training set",
                "datasets/webface4m_subset/10000_seed0/1.0.0: ",
                "fpsset prepare webface4m_subset",
            ),
            ("backbone", "weights/adaface: ", "fpsset convert adaface_ir101_webface4m.ckpt weights/adaface"),
            (
                "lists",
                "*_face_tid_mid.txt, *_template_pair_label.txt",
                "fpsset simulate-ijb IJBC --like ijbc",
            ),
            ("features", "IJBC: ", "fpsset extract --images=IJBC/loose_crop --weights=weights/adaface"),
        ),
        strict=True,
    ):
        assert item.startswith("  missing  ") and all(word in item for word in words)
    assert (
        "simulated data" in offer and "simulate-ijb simulated/IJBC" in line and "train ijbc:features" in line
    )


def test_training_on_features_lists_no_backbone():
    said = "\n".join(checklist("features"))
    assert "webface4m.npz: " in said and "fpsset extract webface4m:cache --out=webface4m.npz" in said
    assert "weights/adaface" not in said


def test_evaluating_lists_no_training_data():
    _, model, *_, line = checklist("eval", weights="FaceCoresetNet.ckpt")
    assert "model         FaceCoresetNet.ckpt: give a workdir" in model
    assert "fpsset fit simulated/train.npz simulated/model && fpsset eval ijbc" in line


def test_what_is_there_is_listed_as_found(tmp_path):
    (tmp_path / "weights/adaface").mkdir(parents=True)
    first, _, backbone, *_ = checklist("images")
    assert "only 1 was found" in first and backbone == "  found    backbone      weights/adaface"


def test_the_model_of_an_evaluation_is_looked_for(tmp_path):
    config = runpy.run_path(str(CONFIGS / "quickstart.py"))["get_config"]("eval")
    with pytest.raises(InputError, match=r"^runs/quickstart: no such folder, so no model to evaluate; train"):
        require_files(config, "runs/quickstart")


def test_files_that_exist_are_not_reported(tmp_path):
    config = runpy.run_path(str(CONFIGS / "features.py"))["get_config"]("train")
    for name in ("train", "eval"):
        (tmp_path / f"{name}.npz").touch()
        config.data[name] = f"{name}.npz"
    require_files(config)
    (tmp_path / "eval.npz").unlink()
    with pytest.raises(InputError, match=r"^eval.npz: no such file to evaluate on; .*fpsset extract"):
        require_files(config)
