"""How a process of this package ends: one line on stderr where something is wrong, and an exit code."""

import sys
from collections.abc import Callable

from fpsset.errors import InputError, TrainingError
from fpsset.runtime.interrupts import Interrupted, stops_as_interrupts


def exit_code(command: Callable[[], None]) -> int:
    """Runs a command: 0 done, 1 training failed, 2 bad input, 130 stopped: the same command goes on."""
    try:
        with stops_as_interrupts():
            command()
    except InputError as error:
        return _fail(error, 2)
    except OSError as error:  # a full disk, a folder that cannot be written to; it names the path
        return _fail(error, 2)
    except TrainingError as error:
        return _fail(error, 1)
    except Interrupted as error:
        return _fail(error, 130)
    except KeyboardInterrupt:
        return _fail("stopped; the same command goes on", 130)
    return 0


def _fail(error: Exception | str, code: int) -> int:
    print("fpsset:", " ".join(str(error).split()), file=sys.stderr)
    return code
