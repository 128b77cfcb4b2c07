"""The command line `fpsset`, which catches signals before anything heavy is imported."""

import gc
import sys
from collections.abc import Callable
from typing import NoReturn

from fpsset.runtime.exits import exit_code, run_program
from fpsset.runtime.interrupts import stops_at_once


def main(argv: list[str] | None = None) -> int:
    """Runs a command line and returns its exit code."""

    def command() -> None:
        with stops_at_once():
            from fpsset.commands.group import run_command
        collect_less_often()
        run_command(argv)

    return run_line(command)


def collect_less_often() -> None:
    """Has the garbage collector leave what is imported alone, and look less often.

    Tracing makes many objects that stay, and to look at them again and again took a tenth of a short run.
    """
    if gc.get_freeze_count() == 0:  # what a process that runs several commands made since may go
        gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def run_line(command: Callable[[], None]) -> int:
    """Runs what a command line asks for; returns its exit code, after leaving other processes of the run."""
    code = exit_code(command)
    if "fpsset.runtime.hosts" in sys.modules:
        from fpsset.runtime import hosts

        hosts.leave(code)
    return code


def program() -> NoReturn:
    """Runs the command line of this process, and exits."""
    run_program(main)


if __name__ == "__main__":
    program()
