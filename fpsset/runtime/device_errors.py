"""Devices that are not there or are out of memory: one line that says what to change."""

import contextlib
import os
import re
from collections.abc import Iterator

from fpsset.errors import InputError, disk_problem, first_line

# Nothing heavy is imported here: a program reads this file before it can be stopped in an orderly way.
_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED: .*(memory|allocat)", re.IGNORECASE | re.DOTALL)
_NO_PLATFORM = "Unable to initialize backend"
_EXTRAS = {"tpu": "tpu", "cuda": "cuda", "gpu": "cuda"}


class DeviceMemoryError(InputError):
    """A device has too little memory (exit code 2)."""


@contextlib.contextmanager
def within_memory(lower: str) -> Iterator[None]:
    """Turns a device's lack of memory inside the block into one line that says what to lower.

    The innermost of nested blocks is the one that counts.

    Args:
      lower: fields or options, e.g. 'config.batch_size'.

    Raises:
      DeviceMemoryError: a device has too little memory.
    """
    try:
        yield
    except Exception as error:  # JAX raises it in several types
        if not _is_out_of_memory(error):
            raise
        raise DeviceMemoryError(f"a device is out of memory ({first_line(error)}); lower {lower}") from error


def device_problem(error: Exception) -> str | None:
    """What is wrong with the devices that an error comes from, and the fix; None for any other error.

    Example:
      >>> device_problem(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."))[:31]
      'a device is out of memory (RESO'
    """
    if _is_out_of_memory(error):
        fix = "give it smaller sets or fewer at a time, or set JAX_PLATFORMS=cpu"
        return f"a device is out of memory ({first_line(error)}); {fix}"
    if _has_no_platform(error):
        asked = os.environ.get("JAX_PLATFORMS", "")
        if not asked:
            return f"{first_line(error)}; JAX_PLATFORMS=cpu runs on the CPU"
        extra = next((_EXTRAS[name] for name in asked.lower().split(",") if name in _EXTRAS), None)
        install = f", or install 'fpsset[{extra}]' where there is one" if extra else ""
        return f"JAX_PLATFORMS is {asked!r}, but JAX finds no such device; unset it{install}"
    return None


def _is_out_of_memory(error: Exception) -> bool:
    return (
        not isinstance(error, InputError)
        and _OUT_OF_MEMORY.search(str(error)) is not None
        and disk_problem(error) is None
    )


def _has_no_platform(error: Exception) -> bool:
    if isinstance(error, RuntimeError):
        return _NO_PLATFORM in str(error)
    # For JAX_PLATFORMS=cuda without an NVIDIA GPU, JAX fails an assertion that has no message.
    trace = error.__traceback__ if isinstance(error, AssertionError) else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "jax._src.xla_bridge"
