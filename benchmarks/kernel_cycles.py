"""What the kernel for small sets costs on a TPU v5e, by the schedule of the chip's compiler; nothing is run.

pip install -e '.[aot]'
python benchmarks/kernel_cycles.py [--sets 1536x8] [--heads 8]

libtpu states no cycles for a kernel, but writes the instructions that it issues, one bundle a cycle. Steps of
the grid and groups of a block are counted by their trips, and what runs only where faces tie is left out. So
is time waited for memory; one read of the faces is in a column of its own. "Around" is XLA's part of the
program with the kernel, and "without" is libtpu's estimate for the whole pass by XLA alone.
"""

import argparse
import os
import pathlib
import re
import shutil
import tempfile

# Read when libtpu starts.
os.environ["LIBTPU_INIT_ARGS"] = f"--xla_jf_dump_to={tempfile.mkdtemp()} --xla_jf_dump_llo_text=true"

import accelerators
import jax.numpy as jnp
from timing import show

from fpsset.ops.fused_pass import block_sizes

_DUMP = os.environ["LIBTPU_INIT_ARGS"].split()[0].partition("=")[2]


def scheduled(text: str, steps: int, groups: int) -> int:
    """Cycles of a kernel from its final bundles, see above."""
    start = end = loop = skipped = 0
    total = 0
    for line in text.splitlines():
        found = re.match(r"\s*(0x[0-9a-f]+|0)\s+(LB|LH|LE|PB|PF|CT)?", line)
        if not found:
            continue
        end = int(found[1], 16)
        if found[2] == "LB" and not start:
            start = end
        elif skipped:
            if found[2] == "PF":
                total, skipped = total - (end - skipped), 0
        elif found[2] == "LB":
            loop = end
        elif loop and "sbr.rel" in line:
            # Short loops move the rest of a block that is not whole.
            total, loop = total + (groups - 1) * (end - loop) * (end - loop > 100), 0
        elif "sbr.rel (!" in line:
            skipped = end
    return steps * (total + end - start)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["1536x8"])
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    args = parser.parse_args()
    rows = []
    for dtype in args.dtypes:
        for name in args.sets:
            sets, size = map(int, name.split("x"))
            shape = sets, size, jnp.dtype(dtype), args.heads
            plain, _, read = accelerators.sets_program("v5e", *shape)
            shutil.rmtree(_DUMP)
            program, *_ = accelerators.sets_program("v5e", *shape, kernel=True)
            (final,) = pathlib.Path(_DUMP).glob("*-fused_pass*[0-9]-final_bundles.txt")
            block, group = block_sizes(sets, size)
            cycles = scheduled(final.read_text(), -(-sets // block), block // group)
            chip = accelerators.CHIPS["v5e"]
            both = (cycles + program.cycles) / plain.cycles
            rows.append(
                [
                    *(name, dtype, f"{plain.compile_s:.0f}", f"{program.compile_s:.0f}"),
                    *(f"{count / 1e6:.2f}" for count in (plain.cycles, cycles, program.cycles)),
                    *(f"{both:.2f}", f"{read / chip.memory * chip.clock / 1e6:.2f}"),
                ]
            )
            print(*rows[-1], flush=True)
    shutil.rmtree(_DUMP, ignore_errors=True)
    columns = [
        *("sets", "dtype", "compile without, CPU s", "with", "M cycles without", "kernel", "around"),
        *("ratio", "read of the faces"),
    ]
    show("The pass over small sets on a v5e", columns, rows, [])


if __name__ == "__main__":
    main()
