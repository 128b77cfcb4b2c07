"""The command lines that run a config: its file, changes of its fields, a workdir, and how to print."""

import ast
import contextlib
import os
import re
import warnings
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from fpsset.commands.configs import find_config
from fpsset.errors import InputError

_NO_PATHS = ("media_pattern",)  # text fields that may begin with a tilde
_SWITCHES = {
    "verbose": "Print every table, not only the most important one.",
    "json": "Print one JSON object and nothing else.",
}


class Asked(NamedTuple):
    """A config and what to do with it."""

    config: ConfigDict
    workdir: str
    verbose: bool = False
    as_json: bool = False


def parse(argv: list[str]) -> Asked:
    """Parses the flags of `python -m fpsset.main`.

    Args:
      argv: the program's name and its arguments; a path may begin with ~.

    Returns:
      What was asked for; the workdir is `runs/NAME` of the config unless another is given.

    Raises:
      InputError: the flags are malformed, or the config cannot be loaded.
    """
    name, argv = _with_path_of_config([_expanded(argument) for argument in argv])
    values = flags.FlagValues()
    here = {"flag_values": values, "module_name": "fpsset"}
    held = config_flags.DEFINE_config_file("config", None, "What to run.", flag_values=values, sys_argv=argv)
    workdir = flags.DEFINE_string("workdir", None, "Folder for results, metrics and checkpoints.", **here)
    switches = {switch: flags.DEFINE_bool(switch, False, text, **here) for switch, text in _SWITCHES.items()}
    flags.FLAGS.mark_as_parsed()  # Grain reads flags of its own
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of how ml_collections loads a file
            rest = values(argv)[1:]
            if held.value is not None:
                _ = held.value.mode  # a config file that cannot be loaded raises only when it is first used
    except (AttributeError, KeyError) as error:  # a key that the config lacks
        raise InputError(f"no such config key: {_unquoted(error)}") from error
    except (flags.Error, ImportError, NameError, OSError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(f"{error}") from error
    if rest:
        raise InputError(f"{rest[0]!r} is not an option; options look like --config.key=value")
    if not held.value:
        raise InputError("--config is missing; e.g. --config configs/quickstart.py")
    expand_tildes(held.value)
    folder = os.path.join("runs", name) if workdir.value is None else os.path.expanduser(workdir.value)
    return Asked(held.value, folder, switches["verbose"].value, switches["json"].value)


def _unquoted(error: Exception) -> str:
    """The message of an error that quotes it once too often, with its line ends as blanks."""
    text = str(error.args[0])
    for _ in range(2):
        with contextlib.suppress(ValueError, SyntaxError):
            text = str(ast.literal_eval(text))
    return " ".join(text.split())


def expand_tildes(config: ConfigDict) -> None:
    """Replaces the ~ that a path in any field begins with by the home folder."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            expand_tildes(value)
        elif isinstance(value, str) and value.startswith("~") and key not in _NO_PATHS:
            config[key] = os.path.expanduser(value)


def _expanded(argument: str) -> str:
    """An argument whose path the shell left alone, as it does after '='; the config file's, in particular."""
    found = re.match(r"(--?config=)?(~.*)", argument)
    return (found[1] or "") + os.path.expanduser(found[2]) if found else argument


def _with_path_of_config(argv: list[str]) -> tuple[str, list[str]]:
    """(Name of the config, `argv` with the path of its file in place of its name)."""
    name, argv = "", list(argv)
    for place, argument in enumerate(argv):
        flag, equals, text = argument.partition("=")
        if place == 0 or flag.lstrip("-") != "config" or not flag.startswith("-"):
            continue
        if not equals and place + 1 == len(argv):
            break
        path, option = find_config(text if equals else argv[place + 1])
        found = f"{path}:{option}" if option else f"{path}"
        argv[place if equals else place + 1] = f"{flag}={found}" if equals else found
        name = path.stem
    return name, argv
