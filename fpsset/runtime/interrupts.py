"""Signals: whenever a stop comes, a command ends with exit code 130 and one line on stderr.

Imports the standard library alone, because a program listens before it imports anything else.
"""

import atexit
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

STOPPED = "stopped; run the same command to continue"
STOPPED_CODE = 130
_AGAIN_SECONDS = 0.02
# Launchers repeat their signals. One that comes later than this after the first asks for more than that one.
_INSIST_SECONDS = 3.0


class Interrupted(Exception):
    """The run was stopped by a signal and has saved its state."""


class StopFlag:
    """Whether a stop was requested."""

    requested = False


class _Listener:
    """The handler of SIGINT and SIGTERM, and what they do now.

    Blocks change only what a stop does, so that there is no moment at which a default handler acts.
    """

    def __init__(self):
        self.ways: list[Callable[[], None]] = []  # the last one acts
        self.raised: BaseException | None = None
        self._first: float | None = None
        self._over = False
        self._before: dict[int, object] = {}
        self._drop = sys.unraisablehook
        self._lines = [f"fpsset: {STOPPED}\n"]

    @property
    def insisting(self) -> bool:
        """Whether the newest signal came so late that it is no repetition of the first."""
        return time.monotonic() - (self._first or time.monotonic()) > _INSIST_SECONDS

    def install(self) -> None:
        """Starts to listen; a SIGINT that is ignored, as shells do for background jobs, stays ignored."""
        self._drop = sys.unraisablehook
        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGALRM]
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            numbers.remove(signal.SIGINT)
        self._before = {number: signal.signal(number, self._on_signal) for number in numbers}
        sys.unraisablehook = self._on_unraisable

    def restore(self) -> None:
        """Restores the handlers from before."""
        self._over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        if sys.unraisablehook == self._on_unraisable:  # a hook set since then stays; it calls this one
            sys.unraisablehook = self._drop
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number, frame) -> None:
        if number != signal.SIGALRM and self._first is None:
            self._first = time.monotonic()
        # What is raised in the hook is lost with a traceback; the timer that it sets asks again.
        if not _runs(_Listener._on_unraisable, frame):
            self.ways[-1]()

    def _on_unraisable(self, unraisable) -> None:
        if self._over or not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._drop(unraisable)
            return
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS, _AGAIN_SECONDS)

    def interrupt(self) -> None:
        """Raises KeyboardInterrupt, again and again until it is on its way out.

        Python swallows exceptions raised in finalizers and in garbage-collector callbacks, of which JAX has
        one, and libraries do so in imports.
        """
        if self._leaves_already():
            if self.insisting:
                self.end()
            return
        self.raised = KeyboardInterrupt()
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS, _AGAIN_SECONDS)
        raise self.raised

    def _leaves_already(self) -> bool:
        """Whether blocks are being left, and cleaned up, because of the interrupt."""
        error, seen = sys.exc_info()[1], set()
        while error is not None and id(error) not in seen and self.raised is not None:
            if error is self.raised:
                return True
            seen.add(id(error))
            error = error.__context__
        return False

    def end(self) -> None:
        """Ends the process at once."""
        try:
            line = self._lines.pop()
        except IndexError:  # the handler was interrupted here by another signal
            return
        with suppress(OSError):
            os.write(2, line.encode())
        os._exit(STOPPED_CODE)

    def ignore(self) -> None:
        """Waits for the end, unless the user insists."""
        if self.insisting:
            os._exit(STOPPED_CODE)

    def ignore_for_good(self) -> None:
        """Has the system ignore stops: at its very end Python restores the default handlers."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)


def _runs(function: Callable, frame: types.FrameType | None) -> bool:
    """Whether a frame is one of a function, or of what it has called."""
    while frame is not None:
        if frame.f_code is function.__code__:
            return True
        frame = frame.f_back
    return False


_listener: _Listener | None = None


def listen_until_exit() -> None:
    """Ends this process, with a line on stderr and exit code 130, on any stop outside of the blocks below."""
    global _listener
    _listener = _Listener()
    _listener.ways.append(_listener.end)
    _listener.install()


def ignore_until_exit() -> None:
    """Ignores stops, which come too late now, until the process has exited."""
    if _listener:
        _listener.ways.append(_listener.ignore)
        atexit.register(_listener.ignore_for_good)  # runs when all threads have ended


@contextmanager
def stops_as_interrupts() -> Iterator[None]:
    """Makes SIGTERM raise KeyboardInterrupt inside the block, as SIGINT does, wherever it arrives.

    Later signals do not disturb what is cleaned up on the way out. If another exception takes the place of
    the interrupt, KeyboardInterrupt is raised at the end of the block. Does nothing outside of the main
    thread, which alone hears signals.
    """
    global _listener
    if not _in_main_thread():
        yield
        return
    outer = _listener
    listener = _listener = outer or _Listener()
    listener.ways.append(listener.interrupt)
    if outer is None:
        listener.install()
    try:
        yield
    except Exception as error:
        if listener.raised is not None and not isinstance(error, Interrupted):
            raise KeyboardInterrupt from error
        raise
    finally:
        listener.ways.append(lambda: None)
        if outer is None:
            listener.restore()
            _listener = None
        else:
            signal.setitimer(signal.ITIMER_REAL, 0)
            del listener.ways[-2]  # what follows is the exit: see `ignore_until_exit`


@contextmanager
def stops_at_once() -> Iterator[None]:
    """Ends the process on a stop inside the block, which holds nothing to clean up: imports, above all.

    There an interrupt might be swallowed, or become another error. Does nothing where nobody listens.
    """
    with _way(lambda listener: listener.end):
        yield


@contextmanager
def stop_requests() -> Iterator[StopFlag]:
    """Turns SIGINT and SIGTERM inside the block into a flag; one seconds after the first acts as usual.

    If the flag is set when the block ends, and it was not left by an exception, KeyboardInterrupt is raised.
    Outside of the main thread, which alone hears signals, the flag is never set.
    """
    stop = StopFlag()
    if not _in_main_thread():
        yield stop
        return
    with _listening() as listener:

        def request() -> None:
            if stop.requested and listener.insisting:
                listener.interrupt()
            stop.requested = True

        listener.ways.append(request)
        try:
            yield stop
        finally:
            listener.ways.pop()
        if stop.requested:
            listener.interrupt()


@contextmanager
def stops_held() -> Iterator[None]:
    """Puts stops off to the end of the block: of reads and writes that leave threads in disorder if cut off.

    Does nothing where nobody listens.
    """
    pending = []
    listener = _listener
    try:
        with _way(lambda _: lambda: pending.append(True)):
            yield
    finally:
        if pending and listener is not None:
            listener.ways[-1]()


@contextmanager
def _listening() -> Iterator[_Listener]:
    """The listener; if there is none, one for this block that raises KeyboardInterrupt."""
    if _listener is not None:
        yield _listener
    else:
        with stops_as_interrupts():
            yield _listener


@contextmanager
def _way(make: Callable[[_Listener], Callable[[], None]]) -> Iterator[None]:
    """Lets stops act in another way inside the block."""
    listener = _listener if _in_main_thread() else None
    if listener is None:
        yield
        return
    way = make(listener)
    listener.ways.append(way)
    try:
        yield
    finally:
        listener.ways.pop()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
