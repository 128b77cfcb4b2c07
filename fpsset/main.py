"""python -m fpsset.main --config configs/NAME.py[:arg] [--workdir DIR] [--config.key=value ...].

Short on purpose: it catches signals before anything heavy is imported; `fpsset.commands` does the work.
"""

import sys

from fpsset.runtime.exits import exit_code, run_program
from fpsset.runtime.interrupts import stops_at_once


def main(argv: list[str]) -> int:
    """Runs a command line and returns its exit code."""

    def command() -> None:
        with stops_at_once():
            from fpsset.commands.config_flags import parse
            from fpsset.commands.runs import run_config
            from fpsset.runtime import hosts
        asked = parse(argv, __doc__.partition("\n")[0])
        if asked:
            with hosts.joined():
                run_config(*asked)

    code = exit_code(command)
    if "fpsset.runtime.hosts" in sys.modules:
        from fpsset.runtime import hosts

        hosts.leave(code)
    return code


if __name__ == "__main__":
    run_program(lambda: main(sys.argv))
