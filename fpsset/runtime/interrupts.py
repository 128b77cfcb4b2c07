"""Signals: stopping a run so that it can be resumed."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


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

    Python swallows exceptions raised in finalizers and in garbage-collector callbacks, of which JAX has one;
    an interrupt swallowed there is raised again a moment later.
    """
    sigterm, drop, timers = signal.signal(signal.SIGTERM, signal.default_int_handler), sys.unraisablehook, []
    done = False

    def on_unraisable(unraisable):
        if done or not issubclass(unraisable.exc_type, KeyboardInterrupt):
            drop(unraisable)
            return
        to_main = (
            threading.main_thread().ident,
            signal.SIGTERM,
        )  # background jobs of a shell may ignore SIGINT
        timers.append(threading.Timer(0.01, signal.pthread_kill, to_main))
        timers[-1].start()

    sys.unraisablehook = on_unraisable
    try:
        yield
    finally:
        done = True
        for timer in timers:
            timer.cancel()
        if sys.unraisablehook is on_unraisable:  # a hook set inside the block stays; it calls this one
            sys.unraisablehook = drop
        signal.signal(signal.SIGTERM, sigterm)
