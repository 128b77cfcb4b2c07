"""Stopping a run so that it can go on."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupted(Exception):
    """The run was asked to stop and has saved where it is."""


class StopFlag:
    """Whether a stop was asked for."""

    asked = False


@contextmanager
def stop_requests() -> Iterator[StopFlag]:
    """Turns SIGINT and SIGTERM into a flag while the loop runs; a second one acts as usual."""
    stop, before = StopFlag(), {}

    def ask(number, frame):
        stop.asked = True
        signal.signal(number, before[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.getsignal(number)
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stops_as_interrupts() -> Iterator[None]:
    """SIGTERM and SIGINT raise KeyboardInterrupt inside, wherever they meet the program.

    Python drops what is raised in a finalizer or in a callback of its garbage collector, where JAX has
    one; such an interrupt is raised again a moment later.
    """
    sigterm, drop, later = signal.signal(signal.SIGTERM, signal.default_int_handler), sys.unraisablehook, []
    done = False

    def dropped(unraisable):
        if done or not issubclass(unraisable.exc_type, KeyboardInterrupt):
            drop(unraisable)
            return
        to_main = threading.main_thread().ident, signal.SIGTERM  # shells may have jobs ignore the other
        later.append(threading.Timer(0.01, signal.pthread_kill, to_main))
        later[-1].start()

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        done = True
        for timer in later:
            timer.cancel()
        if sys.unraisablehook is dropped:  # else one that was set inside stays, and calls this one
            sys.unraisablehook = drop
        signal.signal(signal.SIGTERM, sigterm)
