"""Runs many short command lines as processes, forked from one that has imported the package.

Importing takes each process longer than refusing bad input does.
"""

import json
import os
import pathlib
import subprocess
import sys
from typing import NamedTuple

from tests.compiling import FLAGS
from tests.runs import ROOT

_FORKS = """
import json, os, pathlib, sys
import fpsset.reports.report, fpsset.inference.loading, fpsset.training.loop, fpsset.images.extract
from fpsset.main import main

for name, arguments in json.load(sys.stdin).items():
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        pathlib.Path(sys.argv[1], name + ".code").write_text(str(code))
        continue
    for number, end in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{sys.argv[1]}/{name}.{end}", os.O_CREAT | os.O_WRONLY), number)
    sys.argv = ["fpsset.main", *arguments]  # which flags of a config there are is read from it
    code = main(sys.argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
"""


class Ended(NamedTuple):
    """What a process printed, and its exit code."""

    out: str
    err: str
    code: int


def run_forked(folder: pathlib.Path, lines: dict[str, list]) -> dict[str, Ended]:
    """Runs `python -m fpsset.main`, one after the other.

    Args:
      folder: an empty or new one, for what they print.
      lines: name, which files may have -> arguments of the command line.

    Returns:
      By name, how each ended.
    """
    folder.mkdir(exist_ok=True)
    subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", _FORKS, folder],
        input=json.dumps({name: list(map(str, arguments)) for name, arguments in lines.items()}),
        cwd=ROOT,
        text=True,
        check=True,
        capture_output=True,
        timeout=300,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS},
    )
    read = {
        name: [(folder / f"{name}.{end}").read_text() for end in ("out", "err", "code")] for name in lines
    }
    return {name: Ended(out, err, int(code)) for name, (out, err, code) in read.items()}


def assert_refused(ended: Ended, problem: str) -> list[str]:
    """Checks for a last line on stderr that names the problem, exit code 2, and no result.

    Returns:
      The lines before it, such as where results go.
    """
    assert ended.code == 2, ended.err
    *before, last = ended.err.splitlines()
    assert ended.out == "" and last.startswith("fpsset: ") and problem in last, ended.err
    assert "Traceback" not in ended.err
    return before
