"""Command lines as processes of their own, forked from a server that has imported the package.

For importing takes a process as long as a short command line runs.
"""

import functools
import itertools
import multiprocessing
import os
import pathlib
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from typing import NamedTuple

from tests.compiling import FLAGS

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        *("fpsset.commands.group", "fpsset.commands.runs", "fpsset.commands.config_flags"),
        *("fpsset.images.extract", "fpsset.inference.loading", "fpsset.reports.report"),
        *("fpsset.training.fitting", "fpsset.training.loop"),
        *("fpsset.commands.people_inputs", "fpsset.people.people"),
        *("jinja2", "matplotlib.backends.backend_agg", "matplotlib.figure"),  # imported where they are used
        "tests.forked",
    ]
)


_NUMBERS = itertools.count()


@functools.cache
def _said() -> tempfile.TemporaryDirectory:
    # Not made at import, which forked processes do too, and they end without removing anything.
    return tempfile.TemporaryDirectory(prefix="fpsset-said-")


def said_by_next() -> list[pathlib.Path]:
    """Files for what the next command prints on stdout and stderr."""
    number = next(_NUMBERS)
    return [pathlib.Path(_said().name, f"{number}.{end}") for end in ("out", "err")]


class Ended(NamedTuple):
    """What a process printed, and its exit code."""

    out: str
    err: str
    code: int


class Forked:
    """`python -m MODULE ARGUMENTS`, with what tests use of `subprocess.Popen`.

    Args:
      module: that is run as `__main__`.
      arguments: of the command line.
      environment: variables beside those of this process, None to take one away; JAX has read its own.
    """

    def __init__(self, module: str, *arguments, **environment: str | None):
        self._said = said_by_next()
        asked = {**os.environ, **environment}
        variables = {name: value for name, value in asked.items() if value is not None}
        work = [module, *map(str, arguments)], os.getcwd(), variables, self._said
        self._process = SERVER.Process(target=_run, args=work)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return tuple(path.read_text() if path.exists() else "" for path in self._said)

    def ended(self) -> Ended:
        """Waits for it to end."""
        return Ended(*self.communicate(), self.returncode)


def become(cwd: str, environment: dict[str, str]) -> None:
    """What a forked process does first: it takes on a folder, variables and how Python treats warnings."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    warnings.simplefilter("error", UserWarning)


def print_to(said: list[pathlib.Path]) -> None:
    """Has this process print to files from now on."""
    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), number)


def _run(words: list[str], cwd: str, environment: dict[str, str], said: list[pathlib.Path]) -> None:
    become(cwd, environment)
    print_to(said)
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def run_forked(lines: dict[str, list]) -> dict[str, Ended]:
    """Runs `python -m fpsset.main`, one after the other, given arguments by name; returns how each ended."""
    return {
        name: Forked("fpsset.main", *arguments, XLA_FLAGS=FLAGS).ended() for name, arguments in lines.items()
    }


def start_two(module: str, *arguments, **environment: str) -> list[Forked]:
    """Starts two processes of one JAX program; the arguments are those of `Forked`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        together = {"JAX_COORDINATOR_ADDRESS": f"localhost:{free.getsockname()[1]}", "JAX_NUM_PROCESSES": "2"}
    return [Forked(module, *arguments, **together, **environment, JAX_PROCESS_ID=number) for number in "01"]


def run_two(module: str, *arguments, **environment: str) -> list[Ended]:
    """`start_two`, and their end."""
    return [process.ended() for process in start_two(module, *arguments, **environment)]


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
