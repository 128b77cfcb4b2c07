"""Work that processes share without waiting for each other, and that stops on all of them if it does on one.

Collective calls would make every process wait for the slowest after each step, and break when that takes
long. So a process that is done, or stops, leaves a notice in a folder that all of them see.
"""

import contextlib
import os
import pathlib
import time
from collections.abc import Callable
from types import TracebackType

import jax

from fpsset.errors import InputError
from fpsset.runtime.interrupts import Interrupted
from fpsset.runtime.leftovers import name_beside

_DONE, _FAILED, _STOPPED, _FOLLOWED = OUTCOMES = ("done", "failed", "stopped", "followed")
_POLL_SECONDS = 0.2
# JAX ends the others, with long traces, soon after the first process has ended; so that waits for them.
_LEAVE_SECONDS = 15.0


class Apart:
    """This process's part of work that several share; use it as a context manager around the work.

    If the block is left by an exception, the others raise at their next `check` or `wait`. A single process
    leaves no notices, and hears of none.
    """

    def __init__(self, folder: pathlib.Path, process: int | None = None, count: int | None = None):
        """Begins the work of one of several processes.

        Args:
          folder: of the notices, which holds none yet, see `forget`; all processes see it.
          process: number of this process; None: as JAX says.
          count: how many processes there are; None: as JAX says.
        """
        self._folder = folder
        self._process = jax.process_index() if process is None else process
        self._count = jax.process_count() if count is None else count
        self._following = False

    def __enter__(self) -> "Apart":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self._count == 1:
            return
        stopped = isinstance(error, KeyboardInterrupt | Interrupted)
        outcome = _FOLLOWED if self._following else _STOPPED if stopped else _FAILED
        self._leave_notice(outcome, " ".join(str(error).split()) if isinstance(error, Exception) else "")
        until = time.monotonic() + _LEAVE_SECONDS
        while self._process == 0 and len(self._notices()) < self._count and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)

    def share(self, items: list) -> list:
        """This process's part of a list that is the same on all of them."""
        return items[self._process :: self._count]

    def check(self) -> None:
        """Returns if no other process has stopped.

        Raises:
          InputError: another process failed; the message is its own.
          KeyboardInterrupt: another process was stopped by a signal.
        """
        if self._count == 1:
            return
        for process, (outcome, message) in sorted(self._notices().items()):
            if process == self._process or outcome not in (_FAILED, _STOPPED):
                continue
            self._following = True
            if outcome == _STOPPED:
                raise KeyboardInterrupt
            raise InputError(f"process {process} failed: {message or 'see its message'}")

    def done(self) -> None:
        """Tells the others that this process has done its part."""
        if self._count > 1:
            self._leave_notice(_DONE, "")

    def wait(self, over: Callable[[], bool] | None = None) -> None:
        """Waits until `over()`; None: until every process has done its part. Raises as `check` does."""
        while self._count > 1 and not (over() if over else self._all_done()):
            self.check()
            time.sleep(_POLL_SECONDS)

    def _all_done(self) -> bool:
        return sum(outcome == _DONE for outcome, _ in self._notices().values()) == self._count

    def _leave_notice(self, outcome: str, message: str) -> None:
        file = self._folder / f"process_{self._process}.{outcome}"
        beside = name_beside(file, "part")
        # Without a word if that fails too: the error is on its way out, and JAX ends the others.
        with contextlib.suppress(OSError):
            with contextlib.suppress(OSError):  # a full disk may still take an empty file
                beside.write_text(message)
            os.replace(beside, file)

    def _notices(self) -> dict[int, tuple[str, str]]:
        """What each process has said last: (outcome, message)."""
        found = {}
        for outcome in OUTCOMES:  # a process that has done its part may still fail
            for process in range(self._count):
                with contextlib.suppress(OSError):
                    file = self._folder / f"process_{process}.{outcome}"
                    found[process] = outcome, file.read_text(errors="replace")
        return found


def forget(folder: pathlib.Path) -> None:
    """Removes the notices of earlier runs from a folder, before any process begins."""
    for outcome in OUTCOMES:
        for file in folder.glob(f"process_*.{outcome}"):
            file.unlink(missing_ok=True)
