"""What the kernel for small sets costs on a TPU, by the schedule of the chip's compiler; nothing is run.

pip install -e '.[aot]'
python benchmarks/kernel_cycles.py [--chips v5e] [--sets 1536x8 512x16 256x64] [--heads 8] [--quality]
python benchmarks/kernel_cycles.py --protocol   # the batches of a protocol of IJB-C's size

libtpu states no cycles for a kernel, but writes the instructions that it issues, one bundle a cycle. Steps of
the grid and loops are counted by their trips, and what runs only where faces tie is left out. So is time
waited for memory; one read of the faces is in a column of its own. "Around" is XLA's part of the program with
the kernel, and "without" is libtpu's estimate for the whole pass by XLA alone. Sets beyond the kernel's sizes
cost the same either way. "Prepare" is done once for all batches. A v5p's two cores share the steps.
"""

import argparse
import functools
import itertools
import os
import pathlib
import re
import shutil
import tempfile

# Read when libtpu starts.
os.environ["LIBTPU_INIT_ARGS"] = f"--xla_jf_dump_to={tempfile.mkdtemp()} --xla_jf_dump_llo_text=true"

import accelerators
import jax
import jax.numpy as jnp
from timing import show

import fpsset
from fpsset.models.set_model import prepare_kernel

_DUMP = os.environ["LIBTPU_INIT_ARGS"].split()[0].partition("=")[2]
_LABELS = r"\s*(0x[0-9a-f]+|0)\s+(LB|LH|LE|PB|PF|CT)?[ :]*(>*)"
_BRANCH = r"sbr\.rel \((!?)%(\w+)\) target = \$region(\d+)"
_EXIT = r"%(\w+) = scmp\.ge\.s32\.totalorder %\w+, (\d+) /\* loop exit test"


def scheduled(text: str) -> int:
    """Cycles of a kernel from its final bundles, see above."""
    trips = {test: int(count) for test, count in re.findall(_EXIT, text)}
    starts, loops, left_out, skip, end = {}, [], [], None, 0
    for line in text.splitlines():
        if not (found := re.match(_LABELS, line)):
            continue
        end, depth = int(found[1], 16), len(found[3])
        if found[2] == "LB":
            starts[re.search(r"region (\d+)", line)[1]] = end
        if skip and found[2] == "PF" and depth == skip[1]:
            left_out, skip = [*left_out, (skip[0] + 1, end)], None
        for negated, test, target in re.findall(_BRANCH, line):
            if target in starts:
                loops.append((starts[target], end + 1, trips.get(test, 1)))
            elif negated and not skip:
                skip = end, depth
    # The loop around all others is that over a core's steps, to which the compiler adds two that move memory.
    start, stop, steps = min(loops)
    if stop == max(stop for _, stop, _ in loops):
        loops[loops.index(min(loops))] = start, stop, steps - 2
    weighed = [*loops, *((start, stop, 0) for start, stop in left_out)]
    edges = sorted({0, end + 1, *(edge for span in weighed for edge in span[:2])})
    total = 0
    for start, stop in itertools.pairwise(edges):
        count = 1
        for first, last, times in weighed:
            count *= times if first <= start < last else 1
        total += count * (stop - start)
    return total


def row_of(chip: str, sets: int, size: int, dtype, compare: bool, **options) -> tuple[list[float], float]:
    """([CPU s without, with, cycles without, of the kernel, around], bytes of the faces)."""
    without = [0.0, 0.0]
    if compare:
        plain, *_ = accelerators.sets_program(chip, sets, size, dtype, **options)
        without = [plain.compile_s, plain.cycles]
    shutil.rmtree(_DUMP, ignore_errors=True)
    program, _, read = accelerators.sets_program(chip, sets, size, dtype, kernel=True, **options)
    cycles = 0
    if found := [*pathlib.Path(_DUMP).glob("*-fused_pass*[0-9]-final_bundles.txt")]:
        cycles = scheduled(found[0].read_text())
    return [without[0], program.compile_s, without[1], cycles, program.cycles], read


def prepared(chip: str, dtype, **options) -> list[float]:
    """A row like `row_of`'s, of what is prepared once for all batches."""
    net, struct = fpsset.FaceCoresetNet(dtype=dtype, **options), jax.ShapeDtypeStruct
    faces = struct((1, 8, accelerators.DIM), jnp.float32), struct((1, 8), jnp.float32), struct((1, 8), bool)
    variables = jax.eval_shape(net.init, jax.random.key(0), fpsset.FaceSet(*faces))
    program = accelerators.compile_for(chip, jax.jit(functools.partial(prepare_kernel, net)), variables)
    return [0, program.compile_s, 0, 0, program.cycles]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chips", nargs="+", default=["v5e"], choices=["v5e", "v5p", "v6e"])
    parser.add_argument("--sets", nargs="+", default=["1536x8", "512x16", "256x64"])
    parser.add_argument("--protocol", action="store_true")
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--quality", action="store_true", help="a model with learned quality")
    parser.add_argument("--kernel-only", action="store_true", help="do not compile the pass by XLA alone")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    args = parser.parse_args()
    options = {"num_heads": args.heads, "quality": args.quality}
    rows = []

    def add(chip: str, name: str, dtype: str, row: list[float], read: float) -> None:
        *seconds, without, kernel, around = row
        kind = accelerators.CHIPS[chip]
        rows.append(
            [
                *(chip, name, dtype, *(f"{value:.0f}" if value else "" for value in seconds)),
                *(f"{count / 1e6:.3f}" if count else "" for count in (without, kernel, around)),
                f"{(kernel + around) / without:.2f}" if without else "",
                f"{read / kind.memory * kind.clock / 1e6:.3f}",
            ]
        )
        print(*rows[-1], flush=True)

    for chip in args.chips:
        shapes = {tuple(map(int, name.split("x"))): 1 for name in args.sets}
        if args.protocol:
            shapes = accelerators.protocol_shapes(chip)
        for dtype in args.dtypes:
            whole, reads = [0.0] * 5, 0.0
            for (sets, size), count in shapes.items():
                row, read = row_of(chip, sets, size, jnp.dtype(dtype), not args.kernel_only, **options)
                add(chip, f"{sets:,} x {size:,}" + f", {count} batches" * args.protocol, dtype, row, read)
                times = (1, 1, count, count, count)
                whole = [a + n * b for a, n, b in zip(whole, times, row, strict=True)]
                reads += count * read
            once = prepared(chip, jnp.dtype(dtype), **options)
            add(chip, "prepare", dtype, once, 0.0)
            if args.protocol:
                whole = [a + b for a, b in zip(whole, once, strict=True)]
                add(chip, "IJB-C-like", dtype, whole, reads)
    shutil.rmtree(_DUMP, ignore_errors=True)
    columns = [
        *("chip", "sets", "dtype", "compile without, CPU s", "with", "M cycles without", "kernel", "around"),
        *("ratio", "read of the faces"),
    ]
    show("The pass over small sets", columns, rows, [])


if __name__ == "__main__":
    main()
