"""python -m fpsset.main --config configs/NAME.py[:arg] [--workdir DIR] [--config.key=value ...].

The same as `fpsset train`, `eval`, `extract` or `prepare`, whichever the config is for; those have --help.
"""

import sys

from fpsset.commands.cli import collect_less_often, run_line
from fpsset.runtime.exits import run_program
from fpsset.runtime.interrupts import stops_at_once


def main(argv: list[str]) -> int:
    """Runs a command line and returns its exit code."""

    def command() -> None:
        if {"--help", "-h", "-help"} & set(argv[1:]):
            print(f"{__doc__.strip()}\n\nEvery field of a config is explained in fpsset/config.")
            return
        with stops_at_once():
            from fpsset.commands.config_flags import parse
            from fpsset.commands.runs import run_asked
        collect_less_often()
        run_asked(parse(argv))

    return run_line(command)


if __name__ == "__main__":
    run_program(lambda: main(sys.argv))
