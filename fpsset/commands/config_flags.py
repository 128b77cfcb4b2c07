"""The flags of `python -m fpsset.main`: a config, changes of its fields, and a workdir."""

import os
import re

from absl import flags
from ml_collections import ConfigDict, config_flags

from fpsset.errors import InputError

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to run, e.g. configs/quickstart.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for results, metrics and checkpoints.")
_NO_PATHS = ("media_pattern",)  # text fields that may begin with a tilde


def parse(argv: list[str], usage: str) -> tuple[ConfigDict, str | None] | None:
    """Parses the flags.

    Args:
      argv: the program's name and its arguments; a path may begin with ~.
      usage: what --help prints.

    Returns:
      (config, workdir or None), or None if only help was asked for.

    Raises:
      InputError: the flags are malformed, or the config cannot be loaded.
    """
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(f"{usage}\n\nEvery field of a config is explained in fpsset/config.py.")
        return None
    try:
        rest = flags.FLAGS([_expanded(argument) for argument in argv])[1:]
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
    expand_tildes(_CONFIG.value)
    return _CONFIG.value, os.path.expanduser(_WORKDIR.value) if _WORKDIR.value else _WORKDIR.value


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
