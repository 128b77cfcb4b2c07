"""config.json, which says of what configuration the checkpoints of a workdir are."""

import pytest

from fpsset.config import base_config
from fpsset.errors import InputError
from fpsset.training.workdir import claim_workdir
from tests.damage import bits


@pytest.fixture
def workdir(tmp_path):
    claim_workdir(tmp_path, base_config(), "abc")
    (tmp_path / "checkpoints/1").mkdir(parents=True)
    return tmp_path


def test_single_bits_and_cuts_are_refused_or_change_nothing(workdir):
    path = workdir / "config.json"
    content, refused = path.read_text(), 0
    for what in bits(path, 60, seed=0):
        try:
            claim_workdir(workdir, base_config(), "abc")
            assert path.read_text() == content, what
        except InputError as error:
            assert str(error).startswith(str(workdir)) and "\n" not in str(error), what
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("content", ["", "[]", "NaN", '{"steps": ' + "9" * 5000 + "}", "[" * 10_000, None])
def test_what_is_no_config_is_one_line(workdir, content):
    path = workdir / "config.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=r"config.json: cannot be read as JSON .*; it says what the"):
        claim_workdir(workdir, base_config(), "abc")


def test_what_does_not_change_the_training_may_differ(workdir):
    config = base_config()
    config.evaluation.seed, config.backbone.batch_size = 7, 16
    claim_workdir(workdir, config, "abc")
    config.seed = 7
    with pytest.raises(InputError, match=r"holds another config's checkpoints \(seed 0, now 7\)"):
        claim_workdir(workdir, config, "abc")
