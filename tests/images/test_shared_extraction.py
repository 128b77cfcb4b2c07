"""Extraction on several devices and by several processes: the features of one device."""

import os
import pathlib
import shlex
import subprocess
import sys

import jax
import numpy as np
import pytest

import fpsset
import fpsset.images.extract as extraction
from fpsset.config import extraction_config
from fpsset.data.files import read_features
from fpsset.images.embedding import embed
from fpsset.parallel.mesh import abstract_mesh
from tests.compiling import FLAGS
from tests.forked import run_two
from tests.images.images import write_people
from tests.runs import ROOT
from tests.torch_files import TINY, random_variables, save, state_dict

TWO_DEVICES = f"{FLAGS} --xla_force_host_platform_device_count=2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Weights, twenty images of which one is unreadable, and the features that one device makes of them."""
    folder = tmp_path_factory.mktemp("shared")
    save(folder / "tiny.pth", state_dict(random_variables(TINY), TINY, "net."))
    write_people(folder / "faces", people=4, each=5)
    (folder / "faces/person_2/still_1.png").write_text("no image")
    extraction.extract(config_for(folder, "straight"), jax.devices()[:1])
    return folder


def config_for(folder, name, **fields):
    config = extraction_config()
    config.update(images=str(folder / "faces"), weights=str(folder / "tiny.pth"), out=f"{folder}/{name}.npz")
    config.update(batch_size=3, batches_per_part=1, check_color_order=False, **fields)
    return config


def require_same(folder, name):
    """The same rows in the same order; embeddings but for rounding."""
    found, wanted = read_features(folder / f"{name}.npz"), read_features(folder / "straight.npz")
    assert len(found) == 19
    for column in ("paths", "subject", "media"):
        np.testing.assert_array_equal(getattr(found, column), getattr(wanted, column))
    np.testing.assert_allclose(found.norms, wanted.norms, rtol=1e-5)
    np.testing.assert_allclose(found.embeddings, wanted.embeddings, atol=2e-4)  # float16 in the file
    listing = (folder / f"{name}.unreadable.txt").read_text()
    assert listing == (folder / "straight.unreadable.txt").read_text()


def test_two_devices_make_the_features_of_one(folder):
    """Batches of 3 are filled up to split over 2 devices."""
    extraction.extract(config_for(folder, "two"), jax.devices()[:2])
    require_same(folder, "two")


def test_devices_share_images_without_messages():
    """The program of 8 devices has the convolutions of one, of an eighth of the batch, and no collectives."""
    variables = jax.eval_shape(lambda: random_variables(TINY))
    images = jax.ShapeDtypeStruct((16, 112, 112, 3), np.float32)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    text = jax.jit(lambda v, i: embed(v, i, mesh=mesh)).lower(variables, images).compile().as_text()
    assert not any(name in text for name in ("all-reduce", "all-gather", "all-to-all", "collective-permute"))
    assert "f32[2,112,112" in text and "f32[16,112,112,64]" not in text
    with pytest.raises(fpsset.InputError, match="16 images do not split evenly over 3 devices"):
        jax.eval_shape(lambda v, i: embed(v, i, mesh=abstract_mesh(3)), variables, images)


def line(folder, name) -> list[str]:
    fields = config_for(folder, name)
    given = [f"--config.{key}={fields[key]}" for key in ("images", "weights", "out")]
    given += ["--config.batch_size=3", "--config.batches_per_part=1", "--config.check_color_order=False"]
    return ["fpsset.main", f"--config={ROOT}/configs/extract.py", *given]


def launch_two(folder, name, before) -> subprocess.CompletedProcess:
    """Two processes of two devices each, each of which runs `before`, a line of shell, first."""
    command = f"{before}\nexec {shlex.join([sys.executable, '-m', *line(folder, name)])}"
    return subprocess.run(
        [ROOT / "launch/local_processes.sh", "2", "bash", "-c", command],
        cwd=ROOT,
        text=True,
        capture_output=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": TWO_DEVICES},
        timeout=300,
    )


def lines_of(err: str) -> list[str]:
    assert "Traceback" not in err, err
    return sorted(line for line in err.splitlines() if line.startswith("fpsset:"))


def test_two_processes_share_the_images_and_fail_together(folder):
    """The second's first part does not fit on its disk; later both continue from what was done."""
    out = folder / "apart.npz"
    limit = 'if [ "$JAX_PROCESS_ID" = 1 ]; then ulimit -f 2; fi'
    done = launch_two(folder, "apart", limit)
    problem = f"{out}: could not be written (File too large); the images embedded so far are kept; raise the"
    assert done.returncode == 2, done.stderr
    own, told = lines_of(done.stderr)
    assert own.startswith(f"fpsset: {problem}") and told.startswith(f"fpsset: process 1 failed: {problem}")
    kept = sorted((folder / ".apart.npz.parts").glob("*.npz"))
    assert all(int(file.stem) % 6 == 0 for file in kept) and not out.exists()  # those of the first

    ended = run_two(*line(folder, "apart"), XLA_FLAGS=TWO_DEVICES)
    out_of_both, err = ("".join(one) for one in zip(*(one[:2] for one in ended), strict=True))
    assert [one.code for one in ended] == [0, 0] and lines_of(err) == [], err
    assert out_of_both.count(f"{out}: 19 faces, 4 people, 19 media, 512 wide\n") == 1  # by one of the two
    assert err.count("unreadable: person_2/still_1.png") == 1
    require_same(folder, "apart")
    assert not list(folder.glob(".apart*"))


def test_processes_that_see_other_images_or_folders_are_refused(folder, monkeypatch):
    config = config_for(folder, "refused")
    parts = extraction.Parts(folder / "refused.npz", extraction.list_images(folder / "faces"), config)
    with pytest.raises(fpsset.InputError, match="process 0 does not see what the first writes beside it"):
        parts.require_claimed_by("what the first claimed")
    monkeypatch.setattr(extraction.hosts, "said", lambda text: [text, "another"])
    with pytest.raises(fpsset.InputError, match="the processes see other images, weights or settings there"):
        extraction.extract(config)
    assert not list(folder.glob("*refused*")) and not list(folder.glob(".refused*"))
