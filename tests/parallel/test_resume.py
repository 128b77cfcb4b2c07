"""A run over 4, then 2, then 8 devices equals the run on one: data continue without repetition or gap."""

import json

import jax
import numpy as np

from fpsset.config import base_config
from fpsset.data.synthetic import make_synthetic
from fpsset.parallel.mesh import data_mesh
from fpsset.training.faces import faces_of_table
from fpsset.training.loop import train
from fpsset.weights.trained import read_params


def test_the_number_of_devices_may_change_at_every_start(tmp_path):
    table, _ = make_synthetic(40, 0, dim=16, stills=(2, 5), clips=(0, 1), frames=(2, 3))
    config = base_config()
    config.batch_size, config.log_every, config.eval_every = 8, 1, 100
    config.model.update(name="face_coreset_net", init="random")
    config.model.update(coreset_size=1, dropout_rate=0.0, quality=False)  # compiles sooner
    config.optimizer.learning_rate = 1e-3
    config.data.update(holdout=0.3, max_size=6)

    def run(workdir, devices, steps):
        config.steps, config.checkpoints = steps, f"{workdir}/kept"
        train(config, workdir, faces_of_table(config, table, data_mesh(jax.devices()[:devices])))
        lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        return [line["loss"] for line in lines if "loss" in line]

    expected = run(tmp_path / "one", 1, 18)
    for devices, steps in ((4, 6), (2, 12), (8, 18)):
        losses = run(tmp_path / "many", devices, steps)
    assert {path.name for path in (tmp_path / "many").iterdir()} == {"kept", "metrics.jsonl"}
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    one, many = (read_params(tmp_path / name / "kept/checkpoints/18")[0] for name in ("one", "many"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, many)
