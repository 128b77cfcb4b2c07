"""Runs command lines, as processes or in this one."""

import os
import subprocess
import sys

from fpsset.commands import cli


def process(*arguments, code: int = 0, lines: int = 1, **environment) -> subprocess.CompletedProcess:
    """Runs `fpsset` in a process; checks its exit code, and that an error has one line, or `lines`."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-m", "fpsset.commands.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
    )
    assert done.returncode == code, done.stderr
    if code == 2:
        assert_lines(done.stdout, done.stderr, lines)
    return done


def refused(capsys, *arguments) -> str:
    """The error message of an invalid command line, run in this process, which is faster."""
    capsys.readouterr()
    assert cli.main(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    assert_lines(out, err, 1)
    return err


def assert_lines(out: str, err: str, lines: int) -> None:
    assert out == "" and err.startswith("fpsset: ") and len(err.splitlines()) == lines
