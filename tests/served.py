"""Runs command lines one after the other in a process that stays, and so imports and compiles once.

For runs where neither a signal nor a fresh process is the point. It is no test worker: it has one device and
the settings of `tests.runs.start`, so a run there and one in a process of its own give the same bits.
"""

import atexit
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from tests.compiling import FLAGS
from tests.runs import ROOT

_SERVE = """
import json, os, sys
from fpsset.main import main

answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    arguments, out, err = json.loads(line)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), number)
    sys.argv = ["fpsset.main", *arguments]  # which flags of a config there are is read from it
    code = None
    try:
        code = main(sys.argv)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        print(code, file=answers, flush=True)
"""


@functools.cache
def _server() -> tuple[subprocess.Popen, pathlib.Path]:
    folder = tempfile.TemporaryDirectory(prefix="fpsset-served-")
    process = subprocess.Popen(
        [sys.executable, "-W", "error::UserWarning", "-c", _SERVE],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS},
    )

    def end() -> None:
        process.communicate()
        folder.cleanup()

    atexit.register(end)
    return process, pathlib.Path(folder.name)


def serve(config: str, *arguments, code: int = 0) -> tuple[str, str]:
    """Runs a file in configs/, and checks its exit code; returns its stdout and stderr."""
    process, folder = _server()
    out, err = folder / "out", folder / "err"
    for path in (out, err):
        path.unlink(missing_ok=True)
    words = [f"--config={ROOT}/configs/{config}", *map(str, arguments)]
    process.stdin.write(json.dumps([words, str(out), str(err)]) + "\n")
    process.stdin.flush()
    ended = process.stdout.readline()
    said = out.read_text(), err.read_text()
    assert ended == f"{code}\n", said[1]
    return said
