"""Progress without a terminal: lines with the rate and the time left."""

import functools
import re

from fpsset.runtime import progress as room
from fpsset.runtime.progress import StepProgress, tracked


def test_lines(capsys):
    with StepProgress(total=10, done=5, per_step=40, seconds=0.0) as progress:
        for _ in range(5):
            progress.advance("loss 1.0")
        progress.say("done")
    lines = capsys.readouterr().err.splitlines()
    # The first step compiles and starts the clock.
    assert [line.split()[1] for line in lines[:-1]] == ["7/10", "8/10", "9/10", "10/10"]
    assert all(re.search(r"\d+ templates/s  \d+ s left  loss 1.0$", line) for line in lines[:-1])
    assert lines[-1] == "done"


def test_no_rate_is_shown_before_a_second_has_passed(capsys, monkeypatch):
    """Steps that were under way when the first ended follow it at once."""
    now = iter([10.0, 10.001, 10.002, 11.5])
    monkeypatch.setattr(room.time, "monotonic", lambda: next(now))
    with StepProgress(total=10, done=0, per_step=64, seconds=1.0) as progress:
        for _ in range(4):
            progress.advance("")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("step 4/10  128 templates/s")


def test_items_are_tracked(capsys, monkeypatch):
    every = functools.partial(StepProgress, seconds=0.0)
    monkeypatch.setattr(room, "StepProgress", every)
    assert list(tracked(["aa", "b", "ccc"], 6, "reading", "letters", len)) == ["aa", "b", "ccc"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["3/6", "6/6"]
    assert all(re.search(r"letters/s  \d+ s left  reading$", line) for line in lines)
