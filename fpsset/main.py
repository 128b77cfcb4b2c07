"""python -m fpsset.main --config configs/NAME.py[:arg] [--workdir DIR] [--config.key=value ...].

Short on purpose: this file reads the flags, and `fpsset.commands.runs` does the work.
"""

import sys

from absl import flags
from ml_collections import config_flags

from fpsset.commands.runs import run_config
from fpsset.errors import InputError
from fpsset.runtime import hosts
from fpsset.runtime.exits import exit_code

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to run, e.g. configs/quickstart.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for results, metrics and checkpoints.")


def main(argv: list[str]) -> int:
    """Runs a command line and returns its exit code."""

    def command() -> None:
        if _parse(argv):
            with hosts.joined():
                run_config(_CONFIG.value, _WORKDIR.value)

    code = exit_code(command)
    hosts.leave(code)
    return code


def _parse(argv: list[str]) -> bool:
    """Parses the flags; returns False if only help was asked for."""
    if {"--help", "-h", "-help"} & set(argv[1:]):
        usage = __doc__.partition("\n")[0]
        print(f"{usage}\n\nEvery field of a config is explained in fpsset/config.py.")
        return False
    try:
        rest = flags.FLAGS(argv)[1:]
        if _CONFIG.value is not None:
            _ = _CONFIG.value.mode  # a config file that cannot be loaded raises only when it is first used
    except (AttributeError, KeyError) as error:  # a key that the config lacks
        raise InputError(f"no such config key: {error.args[0]}") from error
    except (flags.Error, ImportError, NameError, OSError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(f"{error}") from error
    if rest:
        raise InputError(f"{rest[0]!r} is not an option; options look like --config.key=value")
    if not _CONFIG.value:
        raise InputError("--config is missing; e.g. --config configs/quickstart.py --workdir runs/quickstart")
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv))
