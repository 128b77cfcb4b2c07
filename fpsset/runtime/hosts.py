"""Processes that train together: how they find each other, agree, and part.

All run one command and hold the same state. What is written, the first writes alone.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping

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
# Others may evaluate for longer than this one.
_PARTING_SECONDS = 1800
# JAX ends the others with the first, and prints pages: they may be about to fail of the same, in one line.
_LAST_SECONDS = 2


def is_first() -> bool:
    """Whether this process is the one that writes; true where it is alone."""
    return jax.process_index() == 0


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Joins the processes that the environment names; inside, `jax.devices()` are those of all.

    The processes part when the block ends, and when all were interrupted at one step. One that fails
    alone ends at once: at its exit JAX would wait for the others, and these for it.

    Raises:
      InputError: the environment is incomplete, or the others cannot be reached.
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
    """Ends a process that failed alone, before JAX waits for the others; others return."""
    if code and jax.distributed.is_initialized():
        if is_first():
            time.sleep(_LAST_SECONDS)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def first_alone(work: Callable[[], object]) -> None:
    """The first process does it while the others wait; all fail where it fails.

    Raises:
      InputError: in the others; in the first whatever `work` raises.
    """
    if jax.process_count() == 1:
        work()
        return
    error = InputError("the first process failed, and says why")
    failed = False
    if is_first():
        try:
            work()
        except Exception as its_own:
            error, failed = its_own, True
    if multihost_utils.broadcast_one_to_all(np.array(failed)):
        raise error


class Agreement:
    """Whether any process asks; all get the same answer in the same call, of several one call late."""

    def __init__(self, mesh: Mesh):
        """Of the processes whose devices are in `mesh`."""
        self._sharding = NamedSharding(mesh, P(AXIS))
        self._any = jax.jit(lambda asks: asks.any(), out_shardings=NamedSharding(mesh, P()))
        self._pending = None  # read one call late, so that no step waits for it

    def __call__(self, asks: bool) -> bool:
        """To be called by all, each with what it asks."""
        if jax.process_count() == 1:
            return asks
        mine = np.full(jax.local_device_count(), asks)
        before = self._pending
        self._pending = self._any(jax.make_array_from_process_local_data(self._sharding, mine))
        return before is not None and bool(before)


def cluster_arguments(environment: Mapping[str, str]) -> dict | None:
    """Of `jax.distributed.initialize`; None for a process that is alone.

    Three variables name the others explicitly; srun of SLURM is known by its own, and elsewhere
    FPSSET_HOSTS=auto asks JAX to find them (TPU VMs, Kubernetes, MPI).
    """
    given = [environment.get(name) for name in _EXPLICIT]
    if any(given):
        if not all(given):
            missing = next(name for name in _EXPLICIT if not environment.get(name))
            raise InputError(f"{missing} is not set; {', '.join(_EXPLICIT)} belong together")
        try:
            address, count, index = given[0], int(given[1]), int(given[2])
        except ValueError as error:
            raise InputError("JAX_NUM_PROCESSES and JAX_PROCESS_ID must be numbers") from error
        return {"coordinator_address": address, "num_processes": count, "process_id": index}
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1 or environment.get("FPSSET_HOSTS") == "auto":
        return {}
    return None


def _join(arguments: dict) -> None:
    # SIGTERM is ours: the loop saves and stops all processes at one step.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**arguments, shutdown_timeout_seconds=_PARTING_SECONDS)
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"cannot join the other processes: {first_line(error)}") from error
    sys.excepthook = _fail_at_once
    if not is_first():
        progress.silence()


def _fail_at_once(*error) -> None:
    sys.__excepthook__(*error)
    leave(1)
