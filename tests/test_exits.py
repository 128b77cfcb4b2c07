"""How a command ends when it is asked to stop."""

import gc
import signal
import sys
import time

import pytest

from fpsset.exits import exit_code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_that_python_drops_is_asked_for_again(number, capfd):
    """In a callback of the garbage collector, as JAX has one, an exception goes nowhere."""
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
    assert capfd.readouterr().err == "fpsset: stopped; the same command goes on\n"
    assert sys.unraisablehook is hook


def test_a_command_that_ends_before_is_done():
    def command():
        gc.callbacks.append(collecting)
        gc.collect()

    def collecting(phase, info):
        gc.callbacks.remove(collecting)
        raise KeyboardInterrupt

    assert exit_code(command) == 0
    time.sleep(0.05)  # nothing comes after it
