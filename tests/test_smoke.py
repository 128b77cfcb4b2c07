"""The whole way in half a minute, for every Python: `-m smoke` runs it.

It needs no extras but pytest, chex and hypothesis. By default only the other tests run, which do all of this.
"""

import importlib
import json
import pkgutil

import numpy as np
import pytest

import fpsset
from fpsset.commands import cli
from fpsset.config import base_config
from fpsset.data.files import write_features
from fpsset.data.synthetic import make_synthetic
from fpsset.training.faces import load_training_faces
from fpsset.training.loop import train
from tests.commands.lines import process
from tests.runs import steps_logged

pytestmark = pytest.mark.smoke
# Packages of extras, which this file does without.
_EXTRAS = {
    "array_record",
    "flatbuffers",
    "onnxruntime",
    "PIL",
    "pyarrow",
    "safetensors",
    "skimage",
    "sklearn",
}
_EXTRAS |= {"tensorboardX", "tensorflow_datasets", "umap"}


def test_every_module_imports():
    found = [name for _, name, _ in pkgutil.walk_packages(fpsset.__path__, "fpsset.")]
    missing = set()
    for name in found:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing.add(error.name.partition(".")[0])
    assert len(found) > 100 and missing <= _EXTRAS


def require_descriptor(model) -> None:
    table, _ = make_synthetic(1, 1, dim=16)
    found = model.aggregate(table.embeddings, table.norms, table.subject, media=table.media)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), [1], atol=1e-5)


def test_training_saves_and_resumes(tmp_path):
    config = base_config()
    config.data.source, config.data.people, config.data.dim, config.data.holdout = "synthetic", 24, 16, 0.5
    config.model.name = "face_coreset_net"
    config.model.init = config.head.init = "random"
    config.batch_size, config.log_every, config.eval_every, config.evaluation.packed = 8, 1, 2, True
    for config.steps in (2, 4):
        train(config, tmp_path, load_training_faces(config))
        assert {*range(1, config.steps + 1)} == {*steps_logged(tmp_path)}
    assert {"2", "4"} <= {path.name for path in (tmp_path / "checkpoints").iterdir()}
    model = fpsset.load(tmp_path)
    assert model.dim == 16
    require_descriptor(model)


def test_a_process_fits_a_model_that_picks_faces(tmp_path, capsys):
    write_features(tmp_path / "faces.npz", make_synthetic(40, 0, dim=16)[0])
    process("fit", tmp_path / "faces.npz", tmp_path / "model")
    require_descriptor(fpsset.load(tmp_path / "model"))
    options = ["--set=0", "--by=subject", f"--sheet={tmp_path}/sheet.html", "--json"]
    assert cli.main(["select", f"{tmp_path}/model", f"{tmp_path}/faces.npz", *options]) == 0
    assert len(json.loads(capsys.readouterr().out)["picked"]) == 3
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"
