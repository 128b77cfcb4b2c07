"""The Python examples in docs/ run, and the commands there use options that exist."""

import pathlib
import re
import shlex
import subprocess
import sys

import click
import pytest
from ml_collections import ConfigDict

from fpsset.commands.group import fpsset
from fpsset.config import base_config

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(path: pathlib.Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", [p for p in PAGES if blocks(p, "python")], ids=lambda path: path.stem)
def test_python_examples_run(path, tmp_path, monkeypatch):
    """Runs all blocks of a page in order, as one program."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in blocks(path, "python"):
        exec(compile(block, path.name, "exec"), namespace)


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every command line in a bash block."""
    lines = [
        (path.stem, shlex.split(line, comments=True))
        for path in PAGES
        for block in blocks(path, "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [(page, words) for page, words in lines if words]


@pytest.mark.parametrize("page, words", commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_commands_parse(page, words):
    """`fpsset` commands parse; runs name an existing config file and existing fields."""
    if words[0] == "fpsset":
        command = fpsset.commands[words[1]]
        command.make_context(words[1], words[2:])  # raises click.UsageError if it does not parse
    elif words[:3] == ["python", "-m", "fpsset.main"]:
        config = words[words.index("--config") + 1]
        assert (ROOT / config.partition(":")[0]).is_file()
        for word in words:
            if word.startswith("--config."):
                assert has_field(base_config(), word.removeprefix("--config.").partition("=")[0]), word


def has_field(config: ConfigDict, field: str) -> bool:
    value = config
    for part in field.split("."):
        if part not in value:
            return False
        value = value[part]
    return True


def test_wrong_options_and_fields_are_detected():
    with pytest.raises(click.UsageError):
        fpsset.commands["convert"].make_context("convert", ["a", "b", "--colour", "rgb"])
    assert not has_field(base_config(), "model.coreset_sise")


def test_links_between_pages_resolve():
    for path in PAGES:
        for link in re.findall(r"\]\((\w+\.md)\)", path.read_text()):
            assert (path.parent / link).is_file(), f"{path.name}: {link}"


def test_the_site_builds(tmp_path):
    """All pages and modules build without a warning; names in a page's code link to their module page."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs/build.py", tmp_path / "site"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "" and "7 pages" in done.stdout
    page = (tmp_path / "site/aggregate.html").read_text()
    assert 'href="fpsset.html#load"' in page and (tmp_path / "site/fpsset/ops/attention.html").is_file()
