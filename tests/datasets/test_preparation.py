"""Preparation in processes: repeated, interrupted, from changed files, and by TFDS's own command."""

import glob
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fpsset.config import check_preparation_config, preparation_config
from fpsset.datasets.preparation import prepare
from fpsset.datasets.prepared import Records, is_prepared
from fpsset.errors import InputError
from fpsset.runtime.locks import sole_use
from tests.forked import Forked
from tests.runs import ROOT, finish, start

PEOPLE = 20_000


def write_source(path, seed=0) -> None:
    """Writes many people with one face each, so that preparing them takes a while."""
    rng = np.random.default_rng(seed)
    np.savez(
        path,
        embeddings=rng.standard_normal((PEOPLE, 4)).astype(np.float32),
        norms=np.ones(PEOPLE),
        subject=np.arange(PEOPLE),
        media=np.arange(PEOPLE),
    )


def kill_while_writing(process: Forked, folder: pathlib.Path, number: signal.Signals) -> None:
    deadline, pattern = time.monotonic() + 60, f"{folder}/incomplete.*/*.array_record*"
    before = set(glob.glob(pattern))
    while not set(glob.glob(pattern)) - before:  # unlike pathlib's, this glob lets folders vanish meanwhile
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)
    process.send_signal(number)


def test_an_interrupted_preparation_leaves_nothing_and_another_source_is_refused(tmp_path):
    source, folder = tmp_path / "faces.npz", tmp_path / "out/face_features/person/1.0.0"
    write_source(source)
    arguments = "prepare.py:face_features", f"--config.source={source}", f"--config.out={tmp_path}/out"

    process = start(*arguments)
    kill_while_writing(process, folder.parent, signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    assert not folder.exists()
    left = {path.name for path in folder.parent.iterdir()}
    assert {name.partition(".")[0] for name in left - {".1.0.0.lock"}} == {"incomplete"}

    process = start(*arguments)  # removes what the killed process left
    kill_while_writing(process, folder.parent, signal.SIGTERM)
    _, err = finish(process, 130)
    assert "Traceback" not in err and err.endswith("run the same command to continue\n")
    assert not list(folder.parent.iterdir())

    out, err = finish(start(*arguments))
    assert out == f"{folder}: {PEOPLE} records\n" and "Traceback" not in err
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]
    assert folder.stat().st_mode & 0o777 == 0o700
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    out, err = finish(start(*arguments))
    assert (out, err) == (f"{folder}: is already prepared from this source\n", "")

    write_source(source, seed=1)
    out, err = finish(start(*arguments), 2)
    assert out == "" and err.startswith(
        f"fpsset: {folder}: was prepared from other files (faces.npz); delete it"
    )
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert len(Records(folder)) == PEOPLE


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"dataset": ""},
            "config.dataset is ''; it must be one of face_features, ",
        ),
        ({"source": ""}, "config.source is empty; give --config.source=DIR"),
        ({"mode": "extract"}, "config.mode is 'extract'; it must be that of its config file"),
        ({"source": "none"}, "none: holds no *_face_tid_mid.txt"),
        ({"source": "none.npz", "dataset": "face_features"}, "none.npz: no such file"),
        ({"source": "none", "dataset": "webface4m_subset"}, "none: no such folder"),
        ({"dataset": "ijbb"}, "is not from IJB-B; give --config configs/prepare.py:ijbc"),
        ({}, "pair 2 names template 8, which has no faces"),
    ],
)
def test_bad_input_is_refused(tmp_path, fields, message):
    meta = tmp_path / "IJBC/meta"
    meta.mkdir(parents=True)
    (meta / "ijbc_face_tid_mid.txt").write_text("1.jpg 7 70\n2.jpg 9 71\n")
    (meta / "ijbc_template_pair_label.txt").write_text("7 9 1\n7 8 0\n")
    np.savez(tmp_path / "IJBC/features.npz", embeddings=np.ones((2, 4), np.float32), norms=np.ones(2))
    config = preparation_config()
    config.update(
        {"dataset": "ijbc", "source": str(tmp_path / "IJBC"), "out": str(tmp_path / "out"), **fields}
    )
    with pytest.raises(InputError) as error:
        check_preparation_config(config)
        prepare(config)
    assert message in str(error.value)
    assert not any(map(is_prepared, tmp_path.rglob("*")))


def test_two_preparations_of_one_dataset_are_refused(tmp_path):
    np.savez(
        tmp_path / "f.npz",
        embeddings=np.ones((2, 4), np.float32),
        norms=np.ones(2),
        subject=np.arange(2),
        media=np.arange(2),
    )
    config, folder = preparation_config(), tmp_path / "out/face_features/person/1.0.0"
    config.update(dataset="face_features", source=str(tmp_path / "f.npz"), out=str(tmp_path / "out"))
    with sole_use(folder, "--config.out"):
        (folder.parent / "incomplete.x_1.0.0").mkdir()  # the first one's
        with pytest.raises(InputError, match=r"1\.0\.0: is in use by process \d+"):
            prepare(config)
        assert (folder.parent / "incomplete.x_1.0.0").exists()
    prepare(config)
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]


def test_the_command_of_tfds_prepares_a_dataset(tmp_path):
    """Calls `tfds build` alone, because the other subcommands import TensorFlow."""
    write_source(tmp_path / "faces.npz")
    code = (
        "import simple_parsing, sys; from tensorflow_datasets.scripts.cli import build; "
        "simple_parsing.parse(build.Args, args=sys.argv[1:]).execute(); "
        "assert 'tensorflow' not in sys.modules"
    )
    arguments = [
        f"{ROOT}/fpsset/datasets/builders/face_features.py",
        *("--config", "person", "--data_dir", f"{tmp_path}/out", "--manual_dir", str(tmp_path)),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *arguments]
    subprocess.run(command, env=environment, check=True, capture_output=True, cwd=tmp_path)
    assert len(Records(tmp_path / "out/face_features/person/1.0.0")) == PEOPLE
