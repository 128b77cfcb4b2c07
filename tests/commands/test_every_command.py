"""Common to all subcommands: help in 80 columns, one-line errors, and running as processes."""

import configparser
import pathlib
import subprocess
import sys

import pytest

import fpsset as package
from fpsset.commands.group import fpsset
from tests.commands.lines import process, refused
from tests.torch_files import aggregator_state, save


@pytest.mark.parametrize("name", fpsset.commands)
def test_help(name, capsys):
    """Help fits 80 columns and describes each argument."""
    command = fpsset.commands[name]
    text = command.get_help(command.make_context(name, [], resilient_parsing=True))
    assert all(len(line) <= 80 for line in text.splitlines())
    usage, *_ = text.splitlines()
    for argument in (p for p in command.params if p.param_type_name == "argument"):
        shown = argument.make_metavar(command.make_context(name, [], resilient_parsing=True)).strip("[].")
        assert shown in usage and shown in text.removeprefix(usage)
    said = refused(capsys, name, "--colour")
    assert "No such option" in said or "no such config key: colour" in said or "CONFIG is missing" in said


def test_the_version():
    line = [sys.executable, "-m", "fpsset.commands.cli", "--version"]
    said = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    assert said == f"fpsset {package.__version__}\n"
    settings = configparser.ConfigParser()
    settings.read(pathlib.Path(package.__file__).parents[1] / "setup.cfg")
    assert settings["metadata"]["version"] == package.__version__


def test_bad_input_of_a_process(tmp_path):
    said = process("convert", tmp_path / "no.ckpt", tmp_path / "out", code=2).err
    assert "no.ckpt" in said
    assert list(tmp_path.iterdir()) == []


def test_processes(tmp_path):
    """Commands that no other test runs as a process."""
    save(tmp_path / "a.ckpt", {"state_dict": aggregator_state(32), "hyper_parameters": {"coreset_size": 3}})
    assert "aggregator: 3 picks, 32 wide" in process("convert", tmp_path / "a.ckpt", tmp_path / "w").out
    assert "MB for cpu" in process("export", tmp_path / "w", tmp_path / "a.hlo", "--platforms", "cpu").out
    out = process("simulate-ijb", tmp_path / "IJBC", "--scale", 0.001, "--dim", 16).out
    assert "templates" in out and (tmp_path / "IJBC/meta").is_dir()
