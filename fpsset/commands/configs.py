"""Configs by name: the files of configs/ in a clone, which a wheel keeps inside the package."""

import ast
import functools
import pathlib

import fpsset
from fpsset.errors import InputError

_PACKAGE = pathlib.Path(fpsset.__file__).parent


def config_folder() -> pathlib.Path:
    """The folder of the configs that come with the package."""
    inside = _PACKAGE / "configs"  # of an installed wheel, see setup.py
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


@functools.cache
def known_configs() -> dict[str, str]:
    """Name -> what it is for, of every config that comes with the package."""
    files = sorted(config_folder().glob("*.py"))
    return {file.stem: _summary(file) for file in files}


def find_config(text: str) -> tuple[pathlib.Path, str]:
    """The file of a config, and the argument after its name.

    Args:
      text: `NAME`, `configs/NAME.py` or the path of any other file; each may be followed by `:ARGUMENT`. A
        file that exists comes before a config of the same name.

    Returns:
      (file, argument; empty if there is none).

    Raises:
      InputError: there is no such config.
    """
    name, _, argument = text.partition(":")
    path = pathlib.Path(name).expanduser()
    if path.suffix == ".py" and path.is_file():
        return path, argument
    known = known_configs()
    is_name = path.suffix in ("", ".py") and path.parent in (pathlib.Path(), pathlib.Path("configs"))
    if is_name and path.stem in known:
        return config_folder() / f"{path.stem}.py", argument
    raise InputError(
        f"{name}: no such config; give the path of a file, or one of {', '.join(known) or 'your own'}"
    )


def _summary(file: pathlib.Path) -> str:
    return (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]
