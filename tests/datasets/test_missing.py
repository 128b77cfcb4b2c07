"""Everything that a run needs and cannot find is reported in one line, before anything is read."""

import pathlib
import runpy

import pytest

from fpsset.datasets.sources import require_files
from fpsset.errors import InputError

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


def message(mode: str, **weights) -> str:
    config = runpy.run_path(str(CONFIGS / "ijbc.py"))["get_config"](mode)
    config.update(weights)
    with pytest.raises(InputError) as error:
        require_files(config)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_training_on_images_names_images_backbone_and_protocol():
    said = message("images")
    for words in (
        *(
            "datasets/webface4m_subset/10000_seed0/1.0.0: no such images",
            "configs/prepare.py:webface4m_subset",
        ),
        *("weights/adaface: no such weights", "fpsset convert adaface_ir101_webface4m.ckpt weights/adaface"),
        *("IJBC: holds no *_face_tid_mid.txt", "*_template_pair_label.txt", "fpsset simulate-ijb IJBC"),
    ):
        assert words in said


def test_training_on_features_names_no_backbone():
    said = message("features")
    assert "webface4m.npz: no such file" in said and "configs/webface4m.py:cache" in said
    assert "weights/adaface" not in said and "IJBC: holds no" in said


def test_evaluating_names_no_training_data():
    said = message("eval", weights="FaceCoresetNet.ckpt")
    assert said.startswith("FaceCoresetNet.ckpt: no such weights to evaluate; give a workdir")
    assert "webface4m" not in said and "IJBC: holds no" in said


def test_files_that_exist_are_not_reported(tmp_path):
    config = runpy.run_path(str(CONFIGS / "features.py"))["get_config"]("train")
    for name in ("train", "eval"):
        (tmp_path / f"{name}.npz").touch()
        config.data[name] = f"{name}.npz"
    require_files(config)
    (tmp_path / "eval.npz").unlink()
    with pytest.raises(InputError, match=r"^eval.npz: no such file to evaluate on; extract features"):
        require_files(config)
