"""The examples in docs/ run, commands there and in the README have options that exist, and links lead on."""

import functools
import json
import pathlib
import re
import shlex

import click
import pytest
from ml_collections import ConfigDict

from fpsset.commands.config_flags import parse
from fpsset.commands.configured import CONFIGURED
from fpsset.commands.group import fpsset
from fpsset.config import DATASETS, base_config, extraction_config, preparation_config
from fpsset.data import synthetic
from fpsset.data.synthetic import make_synthetic
from tests.forked import Forked

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
README = ROOT / "README.md"
RUNS = {command.name for command in CONFIGURED}


def blocks(path: pathlib.Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", [p for p in PAGES if blocks(p, "python")], ids=lambda path: path.stem)
def test_python_examples_run(path, tmp_path, monkeypatch):
    """Runs all blocks of a page in order, as one program, on sets that are all padded to one size."""
    monkeypatch.chdir(tmp_path)
    few = functools.partial(make_synthetic, stills=(3, 4), clips=(0, 1), frames=(3, 4))
    monkeypatch.setattr(synthetic, "make_synthetic", few)
    namespace = {}
    for block in blocks(path, "python"):
        exec(compile(block, path.name, "exec"), namespace)


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every command line in a bash block, and of every `fpsset ...` in a table."""
    found = []
    for path in (README, *PAGES):
        text = [line for block in blocks(path, "bash") for line in block.replace("\\\n", " ").splitlines()]
        text += re.findall(r"\| `(fpsset [^`]*)` \|", path.read_text())
        lines = [part.strip() for line in text for part in line.split("&&")]
        found += [(path.stem, shlex.split(line, comments=True)) for line in lines]
    return [(page, words) for page, words in found if words]


@pytest.mark.parametrize("page, words", commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_commands_parse(page, words):
    """Commands parse; runs name a config that exists, and its fields."""
    if words[0].endswith("fpsset") and words[1] in RUNS:
        name = words[2]
        if name.startswith("--"):
            name, fields = "extract", words[2:]
        else:
            fields = words[3:]
        name = f"prepare:{name}" if words[1] == "prepare" and name in DATASETS else name
        check_run(name, [word for word in fields if word != "--verbose"], "--")
    elif words[0] == "fpsset":
        command = fpsset.commands[words[1]]
        command.make_context(words[1], words[2:])  # raises click.UsageError if it does not parse
    elif words[:3] == ["python", "-m", "fpsset.main"]:
        check_run(words[words.index("--config") + 1], words[words.index("--config") + 2 :], "--config.")


def check_run(config: str, fields: list[str], prefix: str) -> None:
    """Checks that a config has the fields that a command line changes."""
    held = parse(["fpsset", f"--config={ROOT}/{config}" if "/" in config else f"--config={config}"]).config
    for field in fields:
        if field.startswith(prefix) and not field.startswith("--workdir"):
            assert has_field(held, field.removeprefix(prefix).partition("=")[0]), field


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


def test_links_lead_to_files_and_headings():
    for path in (README, *PAGES):
        for link in re.findall(r"\]\(([^)#:]*(?:#[\w-]+)?)\)", path.read_text()):
            file, _, heading = link.partition("#")
            target = path.parent / file if file else path
            assert target.exists(), f"{path.name}: {link}"
            if heading:
                titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
                assert heading in anchors, f"{path.name}: {link}"


def test_the_readme_is_short_and_names_every_page():
    text = README.read_text()
    assert len(text.splitlines()) <= 150 and "OWNER" not in text
    linked = {path.stem for path in PAGES} - {"notebooks"}
    assert all(f"docs/{page}.md" in text for page in linked), linked


def test_the_site_builds(tmp_path):
    """All pages build without a warning; the search knows the API, which names nothing of a framework."""
    built = Forked("sphinx", "-q", "-W", ROOT / "docs", tmp_path / "site").ended()
    assert built.code == 0, built.err
    api = (tmp_path / "site/api.html").read_text()
    assert 'id="fpsset.load"' in api and 'id="fpsset.FaceSet"' in api
    assert "flax.linen.module" not in api and "parent" not in api
    commands, configs = ((tmp_path / f"site/{page}.html").read_text() for page in ("commands", "configs"))
    assert all(f'id="{name}"' in commands for name in fpsset.commands)
    for make in (base_config, extraction_config, preparation_config):
        assert all(key in configs for key in make())
    index = (tmp_path / "site/searchindex.js").read_text()
    held = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))
    assert "farthest_point_sampling" in index and "scale" in held["docnames"]
