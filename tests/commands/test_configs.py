"""Configs by name from anywhere, and the subcommands that run them."""

import json
import pathlib

import pytest

from fpsset.commands import cli
from fpsset.commands.config_flags import parse
from fpsset.commands.configs import find_config, known_configs
from fpsset.data.files import write_features
from fpsset.errors import InputError
from tests.commands.lines import process, refused
from tests.few_people import make_faces

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
SMALL = ["--data.people=60", "--data.eval_people=40", "--data.dim=32", "--data.holdout=0.3"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder that is no clone."""
    monkeypatch.chdir(tmp_path)


def test_every_config_is_known_and_says_what_it_is_for():
    known = known_configs()
    assert set(known) == {path.stem for path in CONFIGS.glob("*.py")} and all(known.values())


@pytest.mark.parametrize("text", ["ijbc", "ijbc.py", "configs/ijbc.py", f"{CONFIGS}/ijbc.py"])
@pytest.mark.parametrize("argument", ["", "eval"])
def test_a_config_is_found_by_name_and_by_path(text, argument):
    path, found = find_config(f"{text}:{argument}" if argument else text)
    assert path.samefile(CONFIGS / "ijbc.py") and found == argument


def test_a_file_comes_before_a_name(tmp_path):
    (tmp_path / "ijbc.py").write_text("")
    assert find_config("ijbc.py")[0] == pathlib.Path("ijbc.py")
    assert find_config("ijbc")[0] == CONFIGS / "ijbc.py"


@pytest.mark.parametrize("text", ["nope", "configs/nope.py", "other/ijbc.py", "ijbc.txt"])
def test_other_configs_are_refused(text):
    with pytest.raises(InputError, match=r"no such config; .* ijbc, "):
        find_config(text)


@pytest.mark.parametrize(
    ("arguments", "workdir"),
    [
        (["--config", "configs/ijbc.py"], "runs/ijbc"),
        (["--config=ijbc:eval"], "runs/ijbc"),
        (["--config=quickstart", "--workdir", "~/x"], "/home/ann/x"),
        (["--config=quickstart", "--workdir="], ""),
    ],
)
def test_the_workdir_is_named_after_the_config(arguments, workdir, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert parse(["fpsset", *arguments]).workdir == workdir


def test_commands_may_be_parsed_one_after_another():
    asked = parse(["fpsset", "--config=quickstart", "--config.steps=7", "--verbose"])
    assert asked.config.steps == 7 and asked.verbose and not asked.as_json
    again = parse(["fpsset", "--config=extract", "--config.std=2", "--json"])
    assert again.config.std == 2 and again.as_json and not again.verbose


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train --steps=3", "CONFIG is missing, e.g. fpsset train quickstart"),
        ("train extract", "whose mode is 'extract', not 'train'; run fpsset extract extract"),
        ("train quickstart:eval", "whose mode is 'eval', not 'train'; run fpsset eval quickstart:eval"),
        ("eval prepare:ijbc", "run fpsset prepare prepare:ijbc"),
        ("extract quickstart", "run fpsset train quickstart"),
        ("extract --image=x", 'Did you mean "images"'),
        ("extract", "config.images is empty"),
        ("prepare ijbb", "config.source is empty"),
        ("prepare nope", "nope: no such config"),
        ("train quickstart --steps=many", "--config.steps=many"),
        ("train quickstart stray", "'stray' is not an option"),
        ("eval quickstart", "runs/quickstart: no such folder, so no model to evaluate"),
    ],
)
def test_refusals(capsys, line, says):
    assert says in refused(capsys, *line.split())


def test_train_and_eval_as_processes():
    """The way of a new user, outside a clone: 25 lines at most, then the same figures as JSON."""
    done = process("train", "quickstart", *SMALL)
    assert done.err.startswith("results go to runs/quickstart\n")
    assert len(done.out.splitlines()) <= 25
    assert all(len(line) <= 80 for line in done.out.splitlines()) and "\x1b" not in done.out
    again = json.loads(process("eval", "quickstart", "--json", *SMALL).out)
    assert again["verdict"].split() == " ".join(done.out.partition("\n\n")[0].split()).split()
    results = json.loads(pathlib.Path(again["results"]).read_text())
    assert all(again[name] == results[name] for name in results) and pathlib.Path(again["report"]).is_file()


@pytest.mark.parametrize("pooling", ["mean", "fps"])
def test_a_plain_pooling_is_evaluated_by_name(capsys, pooling):
    """Its figures are those of the baseline of that name."""
    write_features(pathlib.Path("faces.npz"), make_faces())
    data = ["--data.source=features", "--data.eval=faces.npz"]
    words = ["eval", "quickstart", f"--weights={pooling}", "--evaluation.resamples=0", "--json"]
    assert cli.main([*words, *data]) == 0
    found = json.loads(capsys.readouterr().out)["verification"]
    assert "whitened" not in found
    for name in ("eer", "auc", "tar@far=1e-2"):
        assert found["fpsset"][name] == pytest.approx(found[pooling][name])


def test_a_checklist_is_more_than_a_line():
    said = process("train", "ijbc", code=2, lines=7).err
    assert said.count("  missing  ") == 4 and said.splitlines()[-1].startswith("  fpsset simulate-ijb ")
