"""How a command ends when it is interrupted."""

import contextlib
import gc
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fpsset.errors import InputError
from fpsset.runtime.exits import exit_code
from fpsset.runtime.interrupts import Interrupted, stop_requests, stops_held

STOPPED = "fpsset: stopped; run the same command to continue\n"


@pytest.fixture
def sigint():
    """Sets the handler of SIGINT, which shells make background jobs ignore."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("number", "handler"),
    [
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_IGN),
    ],
)
def test_a_stop_that_python_drops_is_asked_for_again(number, handler, sigint, capfd):
    """Python swallows exceptions in garbage-collector callbacks, of which JAX has one."""
    sigint(handler)
    hook, met = sys.unraisablehook, []

    def collecting(phase, info):
        if not met:
            met.append(phase)
            signal.raise_signal(number)
            met.append("never reached")

    def command():
        gc.callbacks.append(collecting)
        gc.collect(0)
        time.sleep(60)

    try:
        assert exit_code(command) == 130
    finally:
        gc.callbacks.remove(collecting)
    assert met == ["start"]
    assert capfd.readouterr().err == "fpsset: stopped; run the same command to continue\n"
    assert sys.unraisablehook is hook


def test_a_stop_that_comes_as_the_last_one_is_dropped_prints_nothing(sigint, capfd):
    """The timer's signal arrives at the first line of the hook, as on a busy machine."""
    sigint(signal.default_int_handler)
    met = []

    def collecting(phase, info):
        if not met:
            met.append(phase)
            signal.raise_signal(signal.SIGINT)

    def tracing(frame, event, argument):
        if frame.f_code.co_name == "_on_unraisable":
            sys.settrace(None)
            signal.raise_signal(signal.SIGALRM)

    def command():
        gc.callbacks.append(collecting)
        sys.settrace(tracing)
        gc.collect(0)
        time.sleep(60)

    before = sys.gettrace()
    try:
        assert exit_code(command) == 130
    finally:
        sys.settrace(before)
        gc.callbacks.remove(collecting)
    assert capfd.readouterr().err == STOPPED


def test_a_hook_that_is_set_inside_stays():
    """Like the hook that silences late I/O errors, which is still needed after the command."""
    before, seen, passed_on = sys.unraisablehook, [], []
    sys.unraisablehook = lambda error: passed_on.append(error.exc_type)

    def command():
        inner = sys.unraisablehook
        sys.unraisablehook = lambda error: (seen.append(error.exc_type), inner(error))

    try:
        assert exit_code(command) == 0
        gc.callbacks.append(interrupting)
        gc.collect(0)
        assert seen == passed_on == [KeyboardInterrupt]  # not asked for again: nothing is left to stop
        time.sleep(0.05)
    finally:
        sys.unraisablehook = before


def interrupting(phase, info):
    gc.callbacks.remove(interrupting)
    raise KeyboardInterrupt


def test_a_command_that_ends_before_is_done(monkeypatch):
    monkeypatch.setattr("fpsset.runtime.interrupts._AGAIN_SECONDS", 600.0)  # however busy the machine is

    def command():
        gc.callbacks.append(interrupting)
        gc.collect(0)

    assert exit_code(command) == 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)  # nothing comes after it


def stop(times: int = 1) -> None:
    for _ in range(times):
        signal.raise_signal(signal.SIGTERM)


def test_ten_stops_are_one_and_do_not_disturb_what_is_cleaned_up(capfd):
    cleaned = []

    def command():
        try:
            stop()
        finally:
            for _ in range(9):
                stop()
                time.sleep(0.01)  # the timer, too, leaves this alone
            try:
                {}["a key"]
            except KeyError:
                stop()
            cleaned.append(True)

    assert exit_code(command) == 130 and cleaned == [True]
    assert capfd.readouterr().err == STOPPED


@pytest.mark.parametrize("error", [InputError("a library is missing"), OSError("no"), ValueError("state")])
def test_what_takes_the_place_of_a_stop_is_one(error, capfd):
    """As where an import that was cut off is reported as a missing library."""

    def command():
        try:
            stop()
        except KeyboardInterrupt:
            raise error from None

    assert exit_code(command) == 130
    assert capfd.readouterr().err == STOPPED


def test_a_stop_that_a_library_swallows_is_asked_for_again(capfd):
    def command():
        with contextlib.suppress(BaseException):
            stop()
        time.sleep(60)

    assert exit_code(command) == 130
    assert capfd.readouterr().err == STOPPED


def test_stops_are_held_until_a_write_is_complete():
    done = []

    def command():
        with stops_held():
            stop(3)
            done.append("written")
        done.append("never reached")

    assert exit_code(command) == 130 and done == ["written"]


def test_a_stop_that_is_held_within_a_loop_is_a_request():
    seen = []

    def command():
        with pytest.raises(KeyboardInterrupt), stop_requests() as requests:
            with stops_held():
                stop()
                seen.append(requests.requested)
            seen.append(requests.requested)
            stop(9)
            seen.append("still here")
        raise Interrupted("saved")

    assert exit_code(command) == 130 and seen == [False, True, "still here"]


def test_a_request_that_nobody_has_seen_is_raised_at_the_end():
    """Such as one during the last validation."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stop_requests():
        stop()
    with pytest.raises(ValueError), stop_requests():
        stop()
        raise ValueError
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_have_no_handlers():
    """Web servers call the library there, where `signal.signal` raises."""

    def command():
        with stop_requests() as requests, stops_held():
            assert not requests.requested

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(exit_code, command).result(timeout=60) == 0
