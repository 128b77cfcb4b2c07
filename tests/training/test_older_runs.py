"""Runs and exports of version 0.1 stay usable.

`tests/fixtures/run_of_0_1` is a run of configs/quickstart.py over 4 steps, with 40 people of 16 dimensions
(`config_of_the_run`), without the files of its checkpoint that Orbax does not need. `descriptors.npz` holds
synthetic faces, what 0.1 computed from them, and the losses of steps 5 and 6, to which 0.1 continued the run.
"""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

import fpsset
from fpsset.config import base_config
from fpsset.data.synthetic import make_synthetic
from fpsset.errors import InputError
from fpsset.parallel.mesh import data_mesh
from fpsset.training.faces import faces_of_table
from fpsset.training.loop import train
from fpsset.training.workdir import claim_workdir

RUN = pathlib.Path(__file__).parents[1] / "fixtures/run_of_0_1"


@pytest.fixture
def workdir(tmp_path):
    return shutil.copytree(RUN, tmp_path / "run")


@pytest.fixture(scope="module")
def known():
    with np.load(RUN / "descriptors.npz") as file:
        return dict(file)


def config_of_the_run():
    config = base_config()
    config.model.name = "face_coreset_net"  # 0.1 had no other model, and no such field
    config.data.source, config.data.people, config.data.dim = "synthetic", 40, 16
    config.data.eval_people, config.batch_size, config.eval_every, config.log_every = 20, 8, 2, 1
    return config


def test_its_checkpoint_gives_the_same_descriptors_and_digest(known):
    model = fpsset.load(RUN)
    assert model.digest == known["digest"]
    faces = (known[name] for name in ("embeddings", "norms", "subject"))
    _, descriptors, norms, picks = model.aggregate(*faces, media=known["media"])
    np.testing.assert_allclose(descriptors, known["descriptors"], atol=1e-6)
    np.testing.assert_allclose(norms, known["descriptor_norms"], rtol=1e-5)
    np.testing.assert_array_equal(picks, known["picks"])


def test_its_export_runs(known):
    """Exported models ignore media, so they are not passed to the current model either."""
    one = known["subject"] == 0
    embeddings, norms = known["embeddings"][one], known["norms"][one]
    out = jax.export.deserialize((RUN / "aggregator.stablehlo").read_bytes()).call(
        embeddings[None], norms[None], np.ones((1, one.sum()), bool)
    )
    expected = fpsset.load(RUN).aggregate(embeddings, norms, known["subject"][one])
    np.testing.assert_allclose(out["descriptor"], expected.descriptors, atol=1e-5)


def test_it_resumes(workdir, known, capsys):
    config = config_of_the_run()
    config.steps = 6
    table, _ = make_synthetic(config.data.people, config.seed, config.data.dim)
    train(config, workdir, faces_of_table(config, table, data_mesh(jax.devices()[:1])))
    assert "from step 4" in capsys.readouterr().err
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["4", "6"]
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if "loss" in line]
    np.testing.assert_allclose(losses, known["losses"], rtol=1e-4)
    assert json.loads((workdir / "config.json").read_text())["model.init"] == "closed_form"


@pytest.mark.parametrize(("backbone", "source"), [("", "features"), ("weights", "images")])
def test_its_config_is_read_under_current_names(workdir, backbone, source):
    """0.1 wrote model.start and head.start, and 'files' for both features and images."""
    path = workdir / "config.json"
    fields = json.loads(path.read_text())
    assert fields["model.start"] == "faces" and fields["head.start"] == "centers"
    path.write_text(json.dumps(fields | {"data.source": "files", "backbone.weights": backbone}))
    config = config_of_the_run()
    other = {"features": "images", "images": "features"}[source]
    config.data.source = other
    with pytest.raises(InputError, match=f"data.source '{source}', now '{other}'"):
        claim_workdir(workdir, config, fields["training faces"])
    config.data.source = source
    claim_workdir(workdir, config, fields["training faces"])
    assert json.loads(path.read_text())["data.source"] == source
