"""The worked changes in CONTRIBUTING.md apply to the package, and do what they say."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def apply(patch: str, root: pathlib.Path) -> None:
    """Applies the diff of one file, whose hunks name no lines: what they replace is there exactly once."""
    top, *hunks = patch.split("@@\n")
    before, after = re.fullmatch(r"--- (?:a/)?(\S+)\n\+\+\+ b/(\S+)\n", top).groups()
    if before == "/dev/null":
        assert not (root / after).exists()
        text = ""
    else:
        text = (root / before).read_text()
    for hunk in hunks:
        lines = hunk.splitlines(keepends=True)
        old, new = ("".join(line[1:] or "\n" for line in lines if line[0] in kept) for kept in ("- ", "+ "))
        assert text.count(old) == 1 or not text, old
        text = text.replace(old, new)
    (root / after).write_text(text)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_worked_changes(tmp_path):
    """All of them together, in one process."""
    for folder in ("fpsset", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    patches, checks = blocks("diff"), blocks("python")
    assert len(patches) == len(checks) == len(re.findall("^## Add a ", PAGE, re.MULTILINE)) == 4
    for patch in patches:
        apply(patch, tmp_path)
    run = [sys.executable, "-W", "error", "-c", "\n".join(checks)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == done.stderr == "", done.stderr


def test_a_change_that_no_longer_fits_is_detected(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    with pytest.raises(AssertionError, match="x = 1"):
        apply("--- a/a.py\n+++ b/a.py\n@@\n-x = 1\n+x = 2\n", tmp_path)


def test_what_the_page_names_is_there():
    for path in re.findall(r"`((?:fpsset|tests|configs)/[\w./]*)`", PAGE):
        assert (ROOT / path).exists(), path
