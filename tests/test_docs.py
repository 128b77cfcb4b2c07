"""The examples of the pages in docs/ run, and their commands have the options they show."""

import pathlib
import re
import shlex
import subprocess
import sys

import click
import pytest
from ml_collections import ConfigDict

from fpsset.commands.cli import fpsset
from fpsset.config import base_config

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(path: pathlib.Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", [p for p in PAGES if blocks(p, "python")], ids=lambda path: path.stem)
def test_python(path, tmp_path, monkeypatch):
    """The blocks of a page, one after another, as one program."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(path, "python"):
        exec(compile(block, path.name, "exec"), names)


def commands() -> list[tuple[str, list[str]]]:
    lines = [
        (path.stem, shlex.split(line, comments=True))
        for path in PAGES
        for block in blocks(path, "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [(page, words) for page, words in lines if words]


@pytest.mark.parametrize("page, words", commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_commands(page, words):
    """Subcommands parse; runs name config files that exist and fields that a config has."""
    if words[0] == "fpsset":
        command = fpsset.commands[words[1]]
        command.make_context(words[1], words[2:])  # raises click.UsageError where it does not parse
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


def test_a_wrong_option_is_noticed():
    with pytest.raises(click.UsageError):
        fpsset.commands["convert"].make_context("convert", ["a", "b", "--colour", "rgb"])
    assert not has_field(base_config(), "model.coreset_sise")


def test_links_between_pages_lead_somewhere():
    for path in PAGES:
        for link in re.findall(r"\]\((\w+\.md)\)", path.read_text()):
            assert (path.parent / link).is_file(), f"{path.name}: {link}"


def test_the_site_is_built(tmp_path):
    """Pages and modules, without a warning; a link from a page's code to what it names."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs/build.py", tmp_path / "site"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "" and "6 pages" in done.stdout
    page = (tmp_path / "site/aggregate.html").read_text()
    assert 'href="fpsset.html#load"' in page and (tmp_path / "site/fpsset/ops/attention.html").is_file()
