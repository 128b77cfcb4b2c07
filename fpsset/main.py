"""python -m fpsset.main --config configs/NAME.py[:arg] [--workdir DIR] [--config.key=value ...]."""

import pathlib
import sys

import jax
from absl import flags
from ml_collections import config_flags

from fpsset.commands.runs import run, run_extraction, run_preparation
from fpsset.errors import InputError
from fpsset.runtime import hosts
from fpsset.runtime.exits import exit_code

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to run, e.g. configs/quickstart.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results, metrics and checkpoints go.")


def main(argv: list[str]) -> int:
    """Runs a command line; returns the exit code."""

    def command() -> None:
        if not _parse(argv):
            return
        config = _CONFIG.value
        with hosts.joined():
            match config.mode:
                case "train" | "eval":
                    from fpsset.config import check_config

                    check_config(config)
                    run(config, pathlib.Path(_given("workdir")))
                case _ if jax.distributed.is_initialized():
                    raise InputError(f"config.mode {config.mode!r} runs in one process; start one")
                case "extract":
                    run_extraction(config)
                case "prepare":
                    run_preparation(config)
                case _:
                    raise InputError(
                        f"config.mode is {config.mode!r}; it must be 'train', 'eval' or its config file's"
                    )

    code = exit_code(command)
    hosts.leave(code)
    return code


def _parse(argv: list[str]) -> bool:
    """Reads the flags; False when only help was asked for."""
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(f"{__doc__}\n\nEvery field of a config is explained in fpsset/config.py.")
        return False
    try:
        rest = flags.FLAGS(argv)[1:]
        if _CONFIG.value is not None:
            _ = _CONFIG.value.mode  # a file that cannot be loaded says so only when it is used
    except (AttributeError, KeyError) as error:  # a key that the config does not have
        raise InputError(f"no such config key: {error.args[0]}") from error
    except (flags.Error, ImportError, NameError, OSError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(f"{error}") from error
    if rest:
        raise InputError(f"{rest[0]!r} is not an option; options look like --config.key=value")
    _given("config")
    return True


def _given(name: str):
    """The value of a flag; raises InputError where it is missing."""
    value = flags.FLAGS[name].value
    if not value:
        raise InputError(
            f"--{name} is missing; e.g. --config configs/quickstart.py --workdir runs/quickstart"
        )
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv))
