"""Shared by the benchmarks: interleaved medians, the machine's rates, the floor, and printing a table."""

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

# A multiply-add is two FLOPs. A set of any size costs K = 3 rows through eight 512 x 512 projections; a face
# costs products with 24 absorbed queries, a sum with 24 weights, and the sines of its norm.
SET_FLOPS, FACE_FLOPS, FACE_BYTES = 12.6e6, 0.1e6, 2048


def medians(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each function; rounds alternate, so that changes of load affect all of them alike.

    Each call is preceded by an untimed one, to let the threads of the previous function come to rest.
    """
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            jax.block_until_ready(function())
            start = time.perf_counter()
            jax.block_until_ready(function())
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


class Rates:
    """The machine's rates of float32 matrix products and of reading memory, from timings of `functions`."""

    def __init__(self, size: int = 2048):
        """Prepares products of `size` x `size` matrices and a read of 256 MiB."""
        matrix = jnp.asarray(np.random.default_rng(0).standard_normal((size, size)), jnp.float32)
        memory = jnp.zeros((1 << 26,), jnp.float32)
        product, total = jax.jit(lambda a: a @ a), jax.jit(jnp.sum)
        self.functions = {"product": lambda: product(matrix), "read": lambda: total(memory)}
        self._flops, self._bytes = 2 * size**3, memory.nbytes

    def floor(self, times: dict[str, float], sets: int, faces: int) -> float:
        """A lower bound in seconds: the time for the multiply-adds, or for one read of the features."""
        rate, read = self._flops / times["product"], self._bytes / times["read"]
        return max((sets * SET_FLOPS + faces * FACE_FLOPS) / rate, faces * FACE_BYTES / read)

    def line(self, times: dict[str, float]) -> str:
        """The rates as a line of text."""
        rate, read = self._flops / times["product"], self._bytes / times["read"]
        return f"matrix products {rate / 1e9:.0f} GFLOP/s, one read {read / 1e9:.0f} GB/s"


def machine() -> str:
    """The processor or accelerator, the versions of libraries, and the date."""
    installed = {found.name for found in importlib.metadata.distributions()}  # torch may be missing
    versions = (
        f"{name} {importlib.metadata.version(name)}"
        for name in ("jax", "flax", "torch", "numpy")
        if name in installed
    )
    device = jax.devices()[0]
    kind = device.device_kind if device.platform != "cpu" else f"{_processor()}, {os.cpu_count()} cores"
    return f"{kind}; Python {platform.python_version()}, {', '.join(versions)}; {time.strftime('%Y-%m-%d')}"


def show(title: str, columns: list[str], rows: list[list[str]], notes: list[str]) -> None:
    """Prints a table, then notes and the machine."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console = Console(width=110)
    console.print(table)
    for note in (*notes, machine()):
        console.print(note, highlight=False)


def milliseconds(seconds: float) -> str:
    """Formats seconds with three significant digits in ms, or with two decimals from 1 s on."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.machine()
