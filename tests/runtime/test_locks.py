"""Two runs cannot write to one place, and a dead one blocks nobody."""

import os
import signal
import subprocess
import sys

import pytest

from fpsset.errors import InputError
from fpsset.runtime.locks import sole_use

HOLD = """
import sys
from fpsset.runtime.locks import sole_use
with sole_use(sys.argv[1], "--workdir", folder=True):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
    workdir = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workdir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError) as refused, sole_use(workdir, "--workdir", folder=True):
        pass
    assert str(refused.value) == (
        f"{workdir}: is in use by process {process.pid} on {os.uname().nodename}; "
        "wait for it, or give another --workdir"
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (workdir / ".lock").exists()
    with sole_use(workdir, "--workdir", folder=True):
        assert (workdir / ".lock").exists()
    assert list(workdir.iterdir()) == []


def test_locks_lie_beside_files_and_leave_nothing(tmp_path):
    out = tmp_path / "new/features.npz"
    with sole_use(out, "--config.out"):
        assert [path.name for path in out.parent.iterdir()] == [".features.npz.lock"]
        with (
            pytest.raises(InputError, match=rf"in use by process {os.getpid()}"),
            sole_use(out, "--config.out"),
        ):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_has_no_locks():
    with sole_use("gs://bucket/run", "--workdir", folder=True):
        pass


def test_a_lock_is_no_link(tmp_path):
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(InputError, match="cannot be written to"),
        sole_use(tmp_path, "--workdir", folder=True),
    ):
        pass
    assert (tmp_path / "elsewhere").read_text() == "kept"
