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


def test_items_are_tracked(capsys, monkeypatch):
    every = functools.partial(StepProgress, seconds=0.0)
    monkeypatch.setattr(room, "StepProgress", every)
    assert list(tracked(["aa", "b", "ccc"], 6, "reading", "letters", len)) == ["aa", "b", "ccc"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["3/6", "6/6"]
    assert all(re.search(r"letters/s  \d+ s left  reading$", line) for line in lines)
