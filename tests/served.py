"""Runs command lines one after the other in a process that stays, and so compiles once.

For runs where neither a signal nor a fresh process is the point. It is no test worker: it has one device and
the settings of `tests.runs.start`, so a run there and one in a process of its own give the same bits.
"""

import atexit
import functools
import os
import sys
from multiprocessing.connection import Connection

from tests.compiling import FLAGS
from tests.forked import SERVER, become, print_to, said_by_next
from tests.runs import ROOT


def _serve(asked: Connection, cwd: str, environment: dict[str, str]) -> None:
    become(cwd, environment)
    from fpsset.main import main

    while line := asked.recv():
        words, said = line
        print_to(said)
        sys.argv = ["fpsset.main", *words]  # which flags of a config there are is read from it
        code = None
        try:
            code = main(sys.argv)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            asked.send(code)


@functools.cache
def _server() -> Connection:
    ours, theirs = SERVER.Pipe()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS}
    process = SERVER.Process(target=_serve, args=(theirs, str(ROOT), environment), daemon=True)
    process.start()
    theirs.close()

    def end() -> None:
        ours.send(None)
        process.join()

    atexit.register(end)
    return ours


def serve(config: str, *arguments, code: int = 0) -> tuple[str, str]:
    """Runs a file in configs/, and checks its exit code; returns its stdout and stderr."""
    server, said = _server(), said_by_next()
    server.send(([f"--config={ROOT}/configs/{config}", *map(str, arguments)], said))
    ended = server.recv()
    out, err = (path.read_text() for path in said)
    assert ended == code, err
    return out, err
