"""Multi-process runs: joining, agreeing and leaving.

All processes run the same command. In training they hold the same state, and only the first writes files; for
an extraction, which shares out its images, see `fpsset.runtime.apart`.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fpsset.errors import InputError, first_line
from fpsset.parallel.mesh import AXIS
from fpsset.runtime import progress
from fpsset.runtime.interrupts import Interrupted

_EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# Other processes may evaluate for longer than this one.
_SHUTDOWN_SECONDS = 1800
# When the first process exits, JAX aborts the others with long traces. They often fail of the same cause, so
# the first waits this long for them to print their one line.
_FIRST_EXIT_SECONDS = 2
_LONGEST = 1000  # bytes of what a process says
_Result = TypeVar("_Result")


def is_first() -> bool:
    """Whether this process is the one that writes files; true in a single-process run."""
    return jax.process_index() == 0


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Joins the processes that the environment names; inside, `jax.devices()` spans all of them.

    They disconnect when the block ends, or when all were interrupted at the same step. After any other
    error see `leave`: at a normal exit JAX would wait for the other processes, and they for this one.

    Raises:
      InputError: the environment is incomplete, or the other processes cannot be reached.
    """
    arguments = cluster_arguments(os.environ)
    if arguments is None:
        yield
        return
    _join(arguments)
    try:
        yield
    except Interrupted:
        jax.distributed.shutdown()
        raise
    jax.distributed.shutdown()


def leave(code: int) -> None:
    """Exits at once with `code` if it is not 0 and the process is still joined to others; else returns."""
    if code and jax.distributed.is_initialized():
        if is_first():
            time.sleep(_FIRST_EXIT_SECONDS)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def on_first_process(work: Callable[[], object]) -> None:
    """Calls `work` on the first process while the others wait; if it raises, all processes do.

    Raises:
      InputError: on the other processes; the first raises whatever `work` does.
    """
    if jax.process_count() == 1:
        work()
        return
    error = InputError("the first process failed; see its message")
    failed = False
    if is_first():
        try:
            work()
        except Exception as raised:
            error, failed = raised, True
    if multihost_utils.broadcast_one_to_all(np.array(failed)):
        raise error


def together(work: Callable[[], _Result]) -> _Result:
    """Calls `work` on every process; if it raises on one, all of them raise.

    Returns:
      This process's own result.

    Raises:
      InputError: on a process whose own work succeeded, with the message of the first that failed; on others
        whatever `work` raises.
    """
    if jax.process_count() == 1:
        return work()
    result, error = None, None
    try:
        result = work()
    except Exception as raised:
        error = raised
    problem = "" if error is None else " ".join(str(error).split()) or type(error).__name__
    for process, message in enumerate(said(problem)):
        if message and error is None:
            error = InputError(f"process {process} failed: {message}")
    if error is not None:
        raise error
    return result


def said(text: str) -> list[str]:
    """What each process says, on every process, which must all make the call; long texts are cut short."""
    if jax.process_count() == 1:
        return [text]
    padded = text.encode()[:_LONGEST].ljust(_LONGEST, b"\0")
    rows = multihost_utils.process_allgather(np.frombuffer(padded, np.uint8))
    return [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in np.asarray(rows)]


def first_says(vote: bool) -> bool:
    """The first process's vote, on every process; every process must make the call."""
    return vote if jax.process_count() == 1 else bool(multihost_utils.broadcast_one_to_all(np.array(vote)))


def highest(vote: int) -> int:
    """The highest vote of any process, on every process; every process must make the call."""
    if jax.process_count() == 1:
        return vote
    return int(np.max(multihost_utils.process_allgather(np.array(vote))))


class Agreement:
    """Whether any process says yes. All get the same answer; with several processes it lags by one call."""

    def __init__(self, mesh: Mesh):
        """Among the processes whose devices are in `mesh`."""
        self._sharding = NamedSharding(mesh, P(AXIS))
        self._any = jax.jit(lambda votes: votes.any(), out_shardings=NamedSharding(mesh, P()))
        self._pending = None  # read one call later, so that no step waits for it

    def __call__(self, vote: bool) -> bool:
        """Casts this process's vote; every process must make the call."""
        if jax.process_count() == 1:
            return vote
        votes = np.full(jax.local_device_count(), vote)
        before = self._pending
        self._pending = self._any(jax.make_array_from_process_local_data(self._sharding, votes))
        return before is not None and bool(before)

    def at_last(self, vote: bool) -> bool:
        """Casts the last vote and waits for its answer."""
        earlier = self(vote)
        return self(vote) or earlier


def cluster_arguments(environment: Mapping[str, str]) -> dict | None:
    """Arguments for `jax.distributed.initialize`, or None for a single process.

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID give them explicitly. Under SLURM's srun,
    and elsewhere with FPSSET_HOSTS=auto (TPU VMs, Kubernetes, MPI), JAX detects them.

    Raises:
      InputError: some of the three variables are missing, or one of these is not a number.
    """
    given = [environment.get(name) for name in _EXPLICIT]
    if any(given):
        if not all(given):
            missing = next(name for name in _EXPLICIT if not environment.get(name))
            raise InputError(f"{missing} is not set; set all of {', '.join(_EXPLICIT)}, or none")
        try:
            address, count, index = given[0], int(given[1]), int(given[2])
        except ValueError as error:
            raise InputError("JAX_NUM_PROCESSES and JAX_PROCESS_ID must be whole numbers") from error
        return {"coordinator_address": address, "num_processes": count, "process_id": index}
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    try:
        several = int(tasks) > 1
    except ValueError as error:
        raise InputError(
            f"SLURM_STEP_NUM_TASKS is {tasks!r}; it must be a whole number: start with srun, or unset it"
        ) from error
    if several or environment.get("FPSSET_HOSTS") == "auto":
        return {}
    return None


def _join(arguments: dict) -> None:
    # The training loop handles SIGTERM: it saves and stops all processes at the same step.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**arguments, shutdown_timeout_seconds=_SHUTDOWN_SECONDS)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"cannot join the other processes: {first_line(error)}") from error
    sys.excepthook = _fail_at_once
    if not is_first():
        progress.silence()


def _fail_at_once(*error) -> None:
    sys.__excepthook__(*error)
    leave(1)
