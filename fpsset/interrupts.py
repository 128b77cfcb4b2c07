"""Stopping a run so that it can go on."""

import signal
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
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt inside, as SIGINT does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
