"""How a command ends when it is interrupted."""

import gc
import signal
import sys
import time

import pytest

from fpsset.runtime.exits import exit_code


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
        gc.collect()
        time.sleep(60)

    try:
        assert exit_code(command) == 130
    finally:
        gc.callbacks.remove(collecting)
    assert met == ["start"]
    assert capfd.readouterr().err == "fpsset: stopped; run the same command to continue\n"
    assert sys.unraisablehook is hook


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
        gc.collect()
        assert seen == passed_on == [KeyboardInterrupt]  # not asked for again: nothing is left to stop
        time.sleep(0.05)
    finally:
        sys.unraisablehook = before


def interrupting(phase, info):
    gc.callbacks.remove(interrupting)
    raise KeyboardInterrupt


def test_a_command_that_ends_before_is_done():
    def command():
        gc.callbacks.append(interrupting)
        gc.collect()

    assert exit_code(command) == 0
    time.sleep(0.05)  # nothing comes after it
