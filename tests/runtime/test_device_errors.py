"""Devices that are not there or are out of memory."""

import errno
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from fpsset.commands import runs
from fpsset.config import base_config, extraction_config
from fpsset.data.synthetic import make_synthetic
from fpsset.runtime.device_errors import DeviceMemoryError, device_problem, within_memory
from fpsset.runtime.exits import exit_code
from fpsset.training.validation import Validation
from tests.commands.lines import assert_lines, refused

FULL = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes."
PLATFORMS = {
    "tpu": "JAX_PLATFORMS is 'tpu', but JAX finds no such device; unset it, or install 'fpsset[tpu]'",
    "cuda": "JAX_PLATFORMS is 'cuda', but JAX finds no such device; unset it, or install 'fpsset[cuda]'",
}


def fails(*_, **__):
    raise jax.errors.JaxRuntimeError(FULL)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_platform_that_is_not_there(platform, tmp_path):
    config = ["fpsset.main", "--config=configs/quickstart.py", f"--workdir={tmp_path}/run"]
    command = config if platform == "tpu" else ["fpsset.commands.cli", "doctor", f"--data={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": platform},
    )
    assert done.returncode == 2, done.stderr
    assert_lines(done.stdout, done.stderr, 1)
    assert PLATFORMS[platform] in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_other_platforms(monkeypatch):
    error = RuntimeError("Unable to initialize backend 'cuda': no driver (you may ...)")
    monkeypatch.setenv("JAX_PLATFORMS", "x")
    assert device_problem(error) == "JAX_PLATFORMS is 'x', but JAX finds no such device; unset it"
    monkeypatch.delenv("JAX_PLATFORMS")
    found = device_problem(error)
    assert found.startswith("Unable to initialize backend 'cuda': no driver")
    assert found.endswith("; JAX_PLATFORMS=cpu runs on the CPU")


def test_a_device_of_this_machine_that_is_out_of_memory(capsys):
    """The real error, of a request for more than a process can address."""

    def command():
        jax.block_until_ready(jnp.zeros(2**46, jnp.float32))

    assert exit_code(command) == 2
    assert "a device is out of memory (RESOURCE_EXHAUSTED: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("RESOURCE_EXHAUSTED: quota of requests"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: allocating blocks: {os.strerror(errno.ENOSPC)}"),
        AssertionError("of our own"),
    ],
)
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as raised, within_memory("config.batch_size"):
        raise error
    assert raised.value is error and device_problem(error) is None


def test_the_innermost_block_names_what_to_lower():
    with (
        pytest.raises(DeviceMemoryError, match=r"17179869184 bytes\.\); lower b$"),
        within_memory("a"),
        within_memory("b"),
    ):
        fails()


# What fails, and the field that is named.
WHERE = {
    "fpsset.training.faces.load_training_faces": "config.backbone.batch_size",
    "fpsset.training.loop.sharded_init": "config.batch_size",
    "fpsset.evaluation.evaluator.describe": "config.evaluation.faces_per_batch",
}


@pytest.mark.parametrize(("where", "field"), WHERE.items(), ids=list(WHERE.values()))
def test_each_part_of_a_run_names_its_field(where, field, tmp_path, monkeypatch, capsys):
    config = base_config()
    config.data.source, config.data.people, config.data.eval_people, config.data.dim = "synthetic", 40, 10, 16
    config.data.holdout, config.batch_size, config.evaluation.resamples = 0.5, 8, 0
    if "training" in where:
        config.model.name = "face_coreset_net"
    monkeypatch.setattr(where, fails)
    assert exit_code(lambda: runs.run_config(config, str(tmp_path / "run"))) == 2
    err = capsys.readouterr().err
    assert f"fpsset: a device is out of memory ({FULL}); lower {field}\n" in err and "Traceback" not in err


def test_validation_names_its_field(monkeypatch):
    validation = Validation(None, make_synthetic(12, 0, dim=16)[0], base_config())
    monkeypatch.setattr("fpsset.training.validation.describe_one", fails)
    with pytest.raises(DeviceMemoryError, match=r"; lower config\.evaluation\.faces_per_batch$"):
        validation.score({}, print)


def test_images_have_two_fields():
    config = base_config()
    assert runs._fields_of_a_step(config) == "config.batch_size"
    config.data.source = "images"
    assert runs._fields_of_a_step(config) == "config.batch_size or config.backbone.batch_size"


def test_extraction_names_its_field(monkeypatch, capsys):
    config = extraction_config()
    config.images, config.weights, config.out = "images", "net.ckpt", "out.npz"
    monkeypatch.setattr("fpsset.images.extract.extract", fails)
    assert exit_code(lambda: runs.run_config(config, None)) == 2
    assert capsys.readouterr().err.endswith("; lower config.batch_size\n")


def test_doctor_names_its_options(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("fpsset.commands.footprint.footprints", fails)
    said = refused(capsys, "doctor", f"--data={tmp_path}")
    assert said.endswith("; lower --batch-size, --people or --faces\n")
