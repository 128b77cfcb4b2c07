"""Random kills of every long command; minutes of work: `pytest -m kills`. See `tests/kills.py`."""

import os
import signal

import pytest

from tests.kills import COMMANDS, kill, prepare_inputs, trial


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    prepare_inputs(folder)
    return folder


@pytest.mark.parametrize("seconds, number, times", [(0.0, signal.SIGTERM, 10), (0.3, signal.SIGINT, 2)])
def test_a_stop_during_the_imports_is_one_line(seconds, number, times):
    problem, outcome = kill(["-m", "fpsset.commands.cli", "doctor"], seconds, number, times, 0)
    assert not problem and outcome == "130"


@pytest.mark.kills
@pytest.mark.parametrize("name", COMMANDS)
def test_the_same_command_ends_in_the_results_of_an_undisturbed_run(name, given, tmp_path, capsys):
    kills = int(os.environ.get("FPSSET_KILLS", 200))
    each = -(-kills // len(COMMANDS))
    wrong, outcomes = trial(name, given, tmp_path, each, int(os.environ.get("FPSSET_KILLS_SEED", 0)))
    with capsys.disabled():
        print(f"\n{name}: " + ", ".join(f"{count} x {what}" for what, count in sorted(outcomes.items())))
    assert not wrong, "\n\n".join(wrong)
