"""Signals: stopping a run so that it can be resumed."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_AGAIN_SECONDS = 0.02


class Interrupted(Exception):
    """The run was stopped by a signal and has saved its state."""


class StopFlag:
    """Whether a stop was requested."""

    requested = False


@contextmanager
def stop_requests() -> Iterator[StopFlag]:
    """Turns the first SIGINT or SIGTERM inside the block into a flag; a second one acts as usual."""
    stop, before = StopFlag(), {}

    def request(number, frame):
        stop.requested = True
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.getsignal(number)
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stops_as_interrupts() -> Iterator[None]:
    """Makes SIGTERM raise KeyboardInterrupt inside the block, as SIGINT does, wherever it arrives.

    Python swallows exceptions raised in finalizers and in garbage-collector callbacks, of which JAX has one.
    A timer then raises the interrupt again, until it is raised where nothing swallows it.
    """
    drop = sys.unraisablehook
    in_hook = done = False

    def interrupt(number, frame):
        if not in_hook:  # what is raised there is lost; the timer is about to be set
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    def on_unraisable(unraisable):
        nonlocal in_hook
        if done or not issubclass(unraisable.exc_type, KeyboardInterrupt):
            drop(unraisable)
            return
        in_hook = True
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS, _AGAIN_SECONDS)
        in_hook = False

    numbers = [signal.SIGTERM, signal.SIGALRM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # shells make background jobs ignore it
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    sys.unraisablehook = on_unraisable
    try:
        yield
    finally:
        done = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        if sys.unraisablehook is on_unraisable:  # a hook set inside the block stays; it calls this one
            sys.unraisablehook = drop
        for number, handler in before.items():
            signal.signal(number, handler)
