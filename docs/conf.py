"""Builds the site: sphinx-build -W docs build/docs.

The pages are those of this folder. `api.md` says what is documented from the source, without what a framework
adds to a class.
"""

import configparser
import inspect
import json
import pathlib
import re

import click

import fpsset
from fpsset.commands.group import fpsset as group
from fpsset.config import base_config, extraction_config, preparation_config

ROOT = pathlib.Path(__file__).parents[1]
_SETTINGS = configparser.ConfigParser()
_SETTINGS.read(ROOT / "setup.cfg")
# Where the repository is published, 'url' of setup.cfg: links to files and to Colab need it.
REPOSITORY = _SETTINGS["metadata"].get("url", "").rstrip("/")
_TO_FILES = re.compile(r"(?<!!)\[([^\]]*)\]\(\.\./([^)]*)\)")

project = "fpsset"
author = "the authors of fpsset"
copyright = author
version = release = fpsset.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
default_role = "code"
suppress_warnings = ["toc.empty_glob", "ref.python"]  # of attributes with the same name

html_theme = "furo"
html_title = f"fpsset {release}"
html_show_copyright = False
copybutton_prompt_text = ">>> "

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# Fields and methods that Flax adds to every module, and dataclasses to every class.
_OF_FLAX = {"parent", "name", "scope", "setup", "replace", "apply", "init", "bind", "tabulate"}
_FLAX_ARGUMENTS = re.compile(r",? ?\b(parent|name): [^=,()]*(\([^()]*\))?[^=,()]* = [^,()]*(?=[,)])")


def _is_own(obj: object) -> bool:
    return (getattr(obj, "__module__", None) or "fpsset").startswith("fpsset")


def _skip(_app, what, name, obj, skip, _options):
    inside = what in ("class", "exception")
    return True if inside and (name in _OF_FLAX or not _is_own(obj)) else skip


def _signature(_app, _what, _name, _obj, _options, signature, returns):
    return (_FLAX_ARGUMENTS.sub("", signature) if signature else signature), returns


def _docstring(_app, _what, _name, _obj, _options, lines):
    """Escapes the star in shapes like [*B, N] and the bars of |x|, which are not markup."""
    lines[:] = [
        line
        if line.lstrip().startswith((">>>", "..."))
        else re.sub(r"(?<![`\w])\*(?=[A-Z])|\|", lambda found: "\\" + found[0], line)
        for line in lines
    ]


def _fill(_app, _name, source):
    """Puts generated text in place of its mark in a page, and links to files of the repository."""
    source[0] = _TO_FILES.sub(_link, source[0])
    for mark, text in (("@commands@", _commands), ("@configs@", _configs), ("@notebooks@", _notebooks)):
        if mark in source[0]:
            source[0] = source[0].replace(mark, text())


def _link(found: re.Match) -> str:
    text, path = found.groups()
    return f"[{text}]({REPOSITORY}/blob/main/{path})" if REPOSITORY else text


def _notebooks() -> str:
    """A row for each notebook, with a link to Colab if the repository has an address."""
    rows = ["| | |", "|---|---|"]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        first = json.loads(path.read_text())["cells"][0]["source"]
        lines = [line.strip() for line in "".join(first).splitlines() if line.strip()]
        name = f"`notebooks/{path.name}`"
        if REPOSITORY:
            where = f"{REPOSITORY.removeprefix('https://github.com/')}/blob/main/notebooks/{path.name}"
            name = f"[{name}](https://colab.research.google.com/github/{where})"
        rows.append(f"| {name} | {lines[0].lstrip('# ')} |")
    return "\n".join(rows)


def _commands() -> str:
    """The help of every command, as it prints it."""
    context = click.Context(group, info_name="fpsset")
    parts = []
    for name in sorted(group.commands):
        command = group.commands[name]
        shown = command.get_help(click.Context(command, info_name=name, parent=context, terminal_width=78))
        parts.append(f"## {name}\n\n```text\n{shown}\n```\n")
    return "\n".join(parts)


def _configs() -> str:
    """The fields of every kind of config, with their comments, as the source has them."""
    parts = []
    for make in (base_config, extraction_config, preparation_config):
        lines = inspect.getsource(make).splitlines()
        body = [line.removeprefix("    ") for line in lines[2:] if "ConfigDict()" not in line]
        title = inspect.getdoc(make).partition(",")[0].partition(";")[0].rstrip(".")
        parts.append(f"## {title}\n\n```python\n" + "\n".join(body).strip() + "\n```\n")
    return "\n".join(parts)


def setup(app) -> None:
    """Called by Sphinx."""
    for name in fpsset.__all__:
        getattr(fpsset, name)  # imported when first used
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _docstring, priority=400)  # before napoleon
    app.connect("source-read", _fill)
