"""A leading ~ is the home folder in every path, also where the shell leaves it alone."""

import click
import pytest

from fpsset.commands import config_flags
from fpsset.commands.group import fpsset
from fpsset.commands.options import PathOf
from fpsset.config import base_config, extraction_config, preparation_config
from tests.commands.lines import refused

PATHS = {
    base_config: """weights checkpoints compilation_cache data.train data.eval data.eval_features
        data.protocol data.pairs backbone.weights""",
    extraction_config: "images weights out landmarks detector",
    preparation_config: "source out features weights",
}


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")


@pytest.mark.parametrize("config", PATHS)
def test_every_path_of_a_config(config):
    config, paths = config(), PATHS[config].split()
    config.update_from_flattened_dict(dict.fromkeys(paths, "~/x"))
    if "media_pattern" in config:
        config.media_pattern = "~/(.*)"
    config_flags.expand_tildes(config)
    for path in paths:
        value = config
        for part in path.split("."):
            value = value[part]
        assert value == "/home/ann/x"
    assert config.get("media_pattern") in (None, "~/(.*)")


def test_the_config_file():
    assert config_flags._expanded("--config=~/c.py:eval") == "--config=/home/ann/c.py:eval"
    assert config_flags._expanded("--config.seed=~") == "--config.seed=~"


@pytest.mark.parametrize("name", fpsset.commands)
def test_every_path_of_a_command(name):
    """Text options are no paths; names such as `plain` are looked up as paths, too."""
    texts = {"which", "method", "platforms", "merged"}
    for parameter in fpsset.commands[name].params:
        if isinstance(parameter.type, click.types.StringParamType):
            assert parameter.name in texts
        assert not isinstance(parameter.type, click.Path) or isinstance(parameter.type, PathOf)


def test_what_is_said_names_the_expanded_path(capsys):
    assert "/home/ann/none.npz: no such folder or file" in refused(
        capsys, "aggregate", "plain", "~/none.npz", "~/out.npz"
    )
