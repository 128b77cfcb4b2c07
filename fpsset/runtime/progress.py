"""Progress of long work: a bar on a terminal, otherwise lines on stderr."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fpsset.runtime.escapes import printable

console = Console(stderr=True)
_silent = False
# Steps that were under way when the clock started end at once: a rate over less time says nothing.
_SETTLES_SECONDS = 1.0
_Item = TypeVar("_Item")


def silence() -> None:
    """Turns off all progress output; in multi-process runs only the first process reports."""
    global _silent
    _silent = True
    console.quiet = True


class StepProgress:
    """Shows steps done, items per second and time left: a bar on a terminal, otherwise lines on stderr.

    Use as a context manager.
    """

    def __init__(
        self,
        total: int,
        done: int,
        per_step: int,
        title: str = "training",
        items: str = "templates",
        seconds: float = 10.0,
        transient: bool = False,
    ):
        """Starts at step `done`.

        Args:
          total: steps at the end.
          done: steps done before.
          per_step: items per step.
          title: of the bar.
          items: what a step processes, in the plural.
          seconds: minimum time between lines.
          transient: remove the bar at the end.
        """
        self._total, self._done, self._per_step, self._seconds = total, done, per_step, seconds
        self._settles = min(_SETTLES_SECONDS, seconds)
        self._items, self._first = items, done
        self._started = self._said = None
        self._bar = self._task = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn(title, markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=console,
                transient=transient,
            )
            self._task = self._bar.add_task(title, total=total, completed=done, rate="", note="")

    def __enter__(self) -> "StepProgress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, note: str, steps: int = 1) -> None:
        """Records that `steps` more steps are done; `note` is shown beside them, e.g. the loss."""
        self._done += steps
        now = time.monotonic()
        if self._started is None:  # the first step includes compilation, so it is not timed
            self._started, self._said, self._first = now, now, self._done
        passed = now - self._started
        rate = (self._done - self._first) / max(passed, 1e-9) if passed >= self._settles else 0.0
        if self._bar:
            shown = f"{rate * self._per_step:.0f} {self._items}/s" if rate else ""
            self._bar.update(self._task, completed=self._done, rate=shown, note=note)
        elif now - self._said >= self._seconds and rate:
            self._said = now
            left = (self._total - self._done) / rate
            self.say(
                f"step {self._done}/{self._total}  {rate * self._per_step:.0f} {self._items}/s  "
                f"{left:.0f} s left  {note}"
            )

    @staticmethod
    def say(line: str) -> None:
        """Prints a line to stderr, above the bar if there is one."""
        if _silent:
            return
        if console.is_terminal:
            console.print(printable(line), highlight=False, markup=False, emoji=False)
        else:
            print(printable(line), file=sys.stderr, flush=True)


def tracked(
    items: Iterable[_Item], total: int, what: str, unit: str, size: Callable[[_Item], int] = lambda _: 1
) -> Iterator[_Item]:
    """Yields the items while showing progress.

    Args:
      items: to pass through.
      total: sum of their sizes.
      what: the work being done, e.g. 'resampling'.
      unit: of the sizes, in the plural.
      size: gives the size of an item.
    """
    with StepProgress(total, 0, 1, "", unit, transient=True) as progress:
        for item in items:
            yield item
            progress.advance(what, size(item))
