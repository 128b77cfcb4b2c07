"""Edits of a store that are killed at random moments: it holds the state before or after, never between.

A server, which has imported the package but started no device, forks one process for each edit, so that a
kill costs no imports.
"""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

from tests.people.edited import enrolled, make_table, name_of, read
from tests.runs import ROOT

EDITS = {
    "enrol": ["enrol", "{given}/more.npz"],
    "move": ["move", "1", "2", "3", "--to", name_of(1)],
    "merge": ["merge", name_of(2), name_of(3), "--into", name_of(4)],
    "forget": ["forget", name_of(5)],
}
_SERVER = """
import json, os, sys
import fpsset.commands.people_inputs, fpsset.people.people, fpsset.inference.loading
from fpsset.commands import cli

for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = cli.main(json.loads(line))
        os._exit(code)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Server:
    """Runs command lines of `fpsset` in processes of their own, which can be killed."""

    def __init__(self):
        """Starts the server."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )

    def run(self, arguments: list, moment=None) -> int:
        """Runs a command, and kills it when `moment` returns; returns its wait status."""
        print(json.dumps(list(map(str, arguments))), file=self._process.stdin, flush=True)
        child = int(self._process.stdout.readline())
        if moment is not None:
            moment(child)
            try:
                os.kill(child, 9)
            except ProcessLookupError:
                pass
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the server."""
        self._process.communicate(timeout=60)


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

    def __call__(self, child: int) -> None:
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


def trial(server: Server, given: pathlib.Path, place: pathlib.Path, kills: int, seed: int = 0):
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
        assert server.run(arguments) == 0, name
        seconds[name] = time.monotonic() - began
        after[name] = read(path)
        assert after[name] != before
    for number in range(kills):
        name = list(EDITS)[number % len(EDITS)]
        arguments = ["people", path, *(word.format(given=given) for word in EDITS[name])]
        shutil.copy(given / "a.fps", path)
        journal = path.with_name("a.fps-journal")
        moment = Moment(journal, seconds[name], draw.choice(["any", "begin", "middle", "end"]), draw.random())
        server.run(arguments, moment)
        undo = journal.exists() and journal.stat().st_size > 0
        state = read(path)
        assert state in (before, after[name]), name
        if name == "forget" and state == after[name]:
            held = path.read_bytes()
            assert name_of(5).encode() not in held
        found[state == after[name]] += 1
        found[2] += undo
    return tuple(found)
