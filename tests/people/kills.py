"""Edits of a store that are killed at random moments: it holds the state before or after, never between."""

import contextlib
import pathlib
import random
import shutil
import signal
import time
from typing import NamedTuple

from tests.forked import Forked
from tests.people.edited import enrolled, make_table, name_of, read

EDITS = {
    "enrol": ["enrol", "{given}/more.npz"],
    "move": ["move", "1", "2", "3", "--to", name_of(1)],
    "merge": ["merge", name_of(2), name_of(3), "--into", name_of(4)],
    "forget": ["forget", name_of(5)],
}


def run(arguments: list, moment=None) -> int:
    """Runs a command line of `fpsset`, and kills it when `moment` returns; returns its exit code."""
    process = Forked("fpsset.commands.cli", *arguments)
    if moment is not None:
        moment()
        with contextlib.suppress(ProcessLookupError):  # it has ended
            process.send_signal(signal.SIGKILL)
    return process.ended().code


class Moment(NamedTuple):
    """When to kill: at any moment of a command, or by the journal, which exists while the file is changed.

    Attributes:
      journal: its path.
      whole: seconds that the command takes undisturbed.
      when: 'any' moment, the 'begin', the 'middle' or the 'end' of the journal.
      share: in [0, 1), how far into these.
    """

    journal: pathlib.Path
    whole: float
    when: str
    share: float

    def __call__(self) -> None:
        """Waits for the moment."""
        if self.when == "any":
            return time.sleep(self.share * self.whole)
        self._wait(lambda: self.journal.exists())
        if self.when == "end":
            self._wait(lambda: not self.journal.exists())
        return time.sleep(self.share * (0.5 * self.whole if self.when == "middle" else 0.003))

    def _wait(self, ready) -> None:
        end = time.monotonic() + 2 * self.whole
        while not ready() and time.monotonic() < end:
            time.sleep(0.0001)


def prepare(given: pathlib.Path) -> None:
    """Writes a store, and features with more faces of its people and with new people."""
    from fpsset.data.files import write_features

    enrolled(given / "a.fps", make_table(people=40))
    write_features(given / "more.npz", make_table(people=60, seed=0))


def trial(given: pathlib.Path, place: pathlib.Path, kills: int, seed: int = 0):
    """Kills edits at random moments of their work.

    Returns:
      (How many left the state before, how many the state after, how many a journal to undo).
    """
    draw, before, found = random.Random(seed), read(given / "a.fps"), [0, 0, 0]
    after, seconds = {}, {}
    path = place / "a.fps"
    for name in ("enrol", *EDITS):  # the first compiles, for all
        arguments = ["people", path, *(word.format(given=given) for word in EDITS[name])]
        shutil.copy(given / "a.fps", path)
        began = time.monotonic()
        assert run(arguments) == 0, name
        seconds[name] = time.monotonic() - began
        after[name] = read(path)
        assert after[name] != before
    for number in range(kills):
        name = list(EDITS)[number % len(EDITS)]
        arguments = ["people", path, *(word.format(given=given) for word in EDITS[name])]
        shutil.copy(given / "a.fps", path)
        journal = path.with_name("a.fps-journal")
        moment = Moment(journal, seconds[name], draw.choice(["any", "begin", "middle", "end"]), draw.random())
        run(arguments, moment)
        undo = journal.exists() and journal.stat().st_size > 0
        state = read(path)
        assert state in (before, after[name]), name
        if name == "forget" and state == after[name]:
            held = path.read_bytes()
            assert name_of(5).encode() not in held
        found[state == after[name]] += 1
        found[2] += undo
    return tuple(found)
