"""Exit codes: turns expected errors into one line on stderr."""

import contextlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from fpsset.errors import InputError, MissingInputs, TrainingError, disk_problem
from fpsset.runtime.device_errors import device_problem
from fpsset.runtime.escapes import printable_lines
from fpsset.runtime.interrupts import (
    STOPPED,
    STOPPED_CODE,
    Interrupted,
    ignore_until_exit,
    listen_until_exit,
    stops_as_interrupts,
)


def run_program(main: Callable[[], int]) -> NoReturn:
    """Runs `main` as this process, in which a stop at any moment gives 130 and one line on stderr.

    After a stop the process ends without waiting for threads, which it may have left in any state.
    """
    listen_until_exit()
    code = main()
    ignore_until_exit()
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _fail(f"standard output: {error.strerror}", 2)
    if code == STOPPED_CODE:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def exit_code(command: Callable[[], None]) -> int:
    """Runs a command and maps its outcome to an exit code.

    Returns:
      0: done. 1: training failed. 2: bad input. 130: stopped by a signal; the same command continues.
    """
    try:
        with stops_as_interrupts():
            command()
    except InputError as error:
        return _fail(error, 2)
    except OSError as error:  # e.g. a full disk or a read-only folder
        return _fail(_described(error), 2)
    except TrainingError as error:
        return _fail(error, 1)
    except Interrupted as error:
        return _fail(error, STOPPED_CODE)
    except KeyboardInterrupt:
        return _fail(STOPPED, STOPPED_CODE)
    except (RuntimeError, ValueError, AssertionError) as error:  # as JAX raises for devices
        problem = device_problem(error)
        if problem is None:
            raise
        return _fail(problem, 2)
    return 0


def _described(error: OSError) -> Exception | str:
    """The error with a fix, if it is one of a disk."""
    problem = disk_problem(error)
    return f"{error.filename or 'standard output'}: {'; '.join(problem)}" if problem else error


def _fail(error: Exception | str, code: int) -> int:
    text = str(error) if isinstance(error, MissingInputs) else " ".join(str(error).split())
    print("fpsset:", printable_lines(text), file=sys.stderr)
    return code
