"""SIGKILL at random moments of enrol, move, merge and forget. `-m kills` tries more of them."""

import os

import pytest

from tests.people.kills import prepare, trial


@pytest.mark.parametrize(
    "kills", [8, pytest.param(int(os.environ.get("FPSSET_KILLS", 50)), marks=pytest.mark.kills)]
)
def test_a_killed_edit_took_place_or_did_not(kills, tmp_path, capsys):
    given = tmp_path / "given"
    given.mkdir()
    prepare(given)
    before, after, undone = trial(given, tmp_path, kills)
    assert before
    assert kills <= 8 or (after and undone)  # of so many, some come late, and some within a change
    with capsys.disabled():
        if kills > 8:
            print(f"\n{before} before, {after} after, {undone} had a journal to undo")
