"""What the benchmarks share: interleaved medians, the machine's own rates, the floor, one table."""

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

# Multiply-adds count twice. Whatever its size, a set is K = 3 rows through eight 512 x 512 projections; a
# face meets 24 absorbed queries, 24 weights and the sines of its norm.
SET_FLOPS, FACE_FLOPS, FACE_BYTES = 12.6e6, 0.1e6, 2048


def medians(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each function; rounds alternate, so that all meet the same weather.

    Each is called once untimed before it is timed: the threads of the one before must come to rest.
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
    """The machine's measured rates, between other measurements: float32 products, and one read."""

    def __init__(self, size: int = 2048):
        """Compiles what is timed."""
        matrix = jnp.asarray(np.random.default_rng(0).standard_normal((size, size)), jnp.float32)
        memory = jnp.zeros((1 << 26,), jnp.float32)
        product, total = jax.jit(lambda a: a @ a), jax.jit(jnp.sum)
        self.functions = {"product": lambda: product(matrix), "read": lambda: total(memory)}
        self._flops, self._bytes = 2 * size**3, memory.nbytes

    def floor(self, times: dict[str, float], sets: int, faces: int) -> float:
        """Seconds the workload must take: its multiply-adds, or one read of its features."""
        rate, read = self._flops / times["product"], self._bytes / times["read"]
        return max((sets * SET_FLOPS + faces * FACE_FLOPS) / rate, faces * FACE_BYTES / read)

    def line(self, times: dict[str, float]) -> str:
        """The rates in words."""
        rate, read = self._flops / times["product"], self._bytes / times["read"]
        return f"matrix products {rate / 1e9:.0f} GFLOP/s, one read {read / 1e9:.0f} GB/s"


def machine() -> str:
    """Where and with what this runs."""
    installed = {
        found.name for found in importlib.metadata.distributions()
    }  # torch, where it is compared with
    versions = (
        f"{name} {importlib.metadata.version(name)}"
        for name in ("jax", "flax", "torch", "numpy")
        if name in installed
    )
    device = jax.devices()[0]
    kind = device.device_kind if device.platform != "cpu" else f"{_processor()}, {os.cpu_count()} cores"
    return f"{kind}; Python {platform.python_version()}, {', '.join(versions)}; {time.strftime('%Y-%m-%d')}"


def show(title: str, columns: list[str], rows: list[list[str]], notes: list[str]) -> None:
    """Prints one table and what belongs to it."""
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
    """With three digits."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.machine()
