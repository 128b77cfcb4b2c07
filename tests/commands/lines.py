"""Command lines of tests, as processes and within this one."""

import os
import subprocess
import sys

from fpsset.commands import cli


def process(*arguments, code: int = 0, **environment) -> subprocess.CompletedProcess:
    """Runs `fpsset` as a user does; what it refuses is one line."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-m", "fpsset.commands.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
    )
    assert done.returncode == code, done.stderr
    if code == 2:
        assert_one_line(done.stdout, done.stderr)
    return done


def refused(capsys, *arguments) -> str:
    """What is said of a command line that is wrong; in this process, which is faster."""
    capsys.readouterr()
    assert cli.main(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    assert_one_line(out, err)
    return err


def assert_one_line(out: str, err: str) -> None:
    assert out == "" and err.startswith("fpsset: ") and len(err.splitlines()) == 1
