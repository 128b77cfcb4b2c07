"""Exit codes: turns expected errors into one line on stderr."""

import sys
from collections.abc import Callable

from fpsset.errors import InputError, TrainingError
from fpsset.runtime.interrupts import Interrupted, stops_as_interrupts


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
    except OSError as error:  # e.g. a full disk or a read-only folder; the error names the path
        return _fail(error, 2)
    except TrainingError as error:
        return _fail(error, 1)
    except Interrupted as error:
        return _fail(error, 130)
    except KeyboardInterrupt:
        return _fail("stopped; run the same command to continue", 130)
    return 0


def _fail(error: Exception | str, code: int) -> int:
    print("fpsset:", " ".join(str(error).split()), file=sys.stderr)
    return code
