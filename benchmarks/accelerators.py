"""What programs cost on chips that are not here, by the chips' own compilers; nothing is run.

pip install -e '.[aot]'
pip install --no-deps jax-cuda12-plugin==VERSION jax-cuda12-pjrt==VERSION   # of JAX; for h100
python benchmarks/accelerators.py [--chips v5e v5p v6e] [--parts buckets large protocol step backbone]
GPU_TARGET=h100.txtpb python benchmarks/accelerators.py --chips h100   # the file is XLA's

TPU programs are compiled by libtpu, whose text carries its own estimate of cycles for each fusion; loops are
counted by their trips, if known, and of branches the longer one. GPU programs are compiled by the CUDA plugin
without autotuning, and have kernels and loops to count but no cycles. Floors are one read of the input at the
memory's rate and the products at the unit's rate, six passes for exact float32 on a TPU.
"""

import argparse
import functools
import math
import os
import pathlib
import re
import resource
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

# Read when JAX is imported: without them libtpu looks for the machine's own chips.
os.environ |= {
    "TPU_SKIP_MDS_QUERY": "1",
    "JAX_PLATFORMS": "cpu",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several compilers may run at a time
}

import jax
import jax.numpy as jnp
import numpy as np
from cost_model import DIM, SLOTS
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, SingleDeviceSharding
from timing import show

import fpsset
from fpsset.config import base_config
from fpsset.data.pipeline import TrainingBatch
from fpsset.data.simulated_ijb import long_tailed_sizes
from fpsset.inference.batching import batches, bucket_growth
from fpsset.models.iresnet import ARCHITECTURES, IResNet
from fpsset.models.set_model import apply_on_one_device, prepare_kernel
from fpsset.parallel.mesh import AXIS, batch_shapes, padded_classes, state_shapes
from fpsset.training.optimizer import make_optimizer
from fpsset.training.step import geometric, init_state, make_train_step

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


class Chip(NamedTuple):
    """A chip's published figures."""

    platform: str  # of JAX
    topology: str  # its name in the compiler, with {chips} in place of their layout
    clock: float  # Hz
    products: float  # bfloat16 FLOP/s
    memory: float  # bytes/s
    capacity: float  # GiB
    link: float  # bytes/s that a chip sends to its neighbours
    exact: float  # passes that a float32 product takes, as a factor on the time of a bfloat16 one


CHIPS = {
    "v5e": Chip("tpu", "v5e:{}", 0.94e9, 197e12, 819e9, 16, 200e9, 6),
    "v5p": Chip("tpu", "v5p:{}", 1.75e9, 459e12, 2765e9, 95, 600e9, 6),
    "v6e": Chip("tpu", "v6e:{}", 0.94e9, 918e12, 1640e9, 32, 400e9, 6),
    "h100": Chip("cuda", "h100", 1.7e9, 989e12, 3350e9, 80, 450e9, 989 / 67),
}
_LAYOUTS = {
    "v5e": {1: "1x1", 4: "2x2", 8: "2x4", 64: "8x8"},
    "v6e": {1: "1x1", 4: "2x2", 8: "2x4", 64: "8x8"},
    "v5p": {1: "1x1x1", 4: "2x2x1", 8: "2x2x2", 64: "4x4x4"},
}


class Program(NamedTuple):
    """What a compiler says of a program, per chip."""

    compile_s: float  # seconds of CPU time
    cycles: float  # estimated, with loops counted by their trips; NaN on GPUs
    arguments: int  # bytes
    temporary: int  # bytes beside arguments and results
    collectives: dict[str, int]
    kernels: int  # fusions, products and other operations that start on their own
    loops: int
    text: str


@functools.lru_cache
def devices(chip: str, chips: int = 1) -> list:
    """Abstract devices of a kind.

    Raises:
      RuntimeError: the compiler's package is missing.
    """
    kind = CHIPS[chip]
    if kind.platform == "cuda":
        options = {
            "topology": f"1x1x{chips}",
            "target_config": pathlib.Path(os.environ["GPU_TARGET"]).read_text(),
        }
        topology = topologies.get_topology_desc("h100", "cuda", **options)
        return list(topology.devices)
    layout = _LAYOUTS[chip][chips]
    # Fewer chips than a host has are a part of a host.
    options = (
        {"chips_per_host_bounds": [int(n) for n in (layout + "x1x1").split("x")[:3]]} if chips < 4 else {}
    )
    return list(topologies.get_topology_desc(kind.topology.format(layout), "tpu", **options).devices)


def compile_for(chip: str, function: Callable, *shapes: Any) -> Program:
    """Compiles a jitted function for one chip; `shapes` are pytrees of arrays or their shapes."""
    place = SingleDeviceSharding(devices(chip)[0])
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)
    return read_program(lambda: function.lower(*shapes).compile())


def read_program(compiler: Callable) -> Program:
    """Calls a compiler, times it and reads its program."""
    before = _cpu_seconds()
    compiled = compiler()
    seconds = _cpu_seconds() - before
    text, memory = compiled.as_text(), compiled.memory_analysis()
    computations, entry = parse(text)
    found = Counter(
        kind
        for lines in computations.values()
        for line in lines
        for kind in COLLECTIVES
        if re.search(rf" {kind}(-start)?\(", line)
    )
    return Program(
        seconds,
        cycles(computations, entry) if "estimated_cycles" in text else math.nan,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        dict(found),
        kernels(computations, entry),
        sum(" while(" in line for lines in computations.values() for line in lines),
        text,
    )


def parse(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation of an HLO text, and the name of the entry."""
    computations, entry, name = {}, "", None
    for line in text.splitlines():
        if header := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = header[2]
            computations[name] = []
            entry = name if header[1] else entry
        elif line.startswith("}"):
            name = None
        elif name:
            computations[name].append(line)
    return computations, entry


def cycles(computations: dict[str, list[str]], name: str) -> float:
    """Estimated cycles of a computation, with loops counted by their trips and of branches the longer.

    A loop whose trips depend on the data counts as none: ours run where faces tie.
    """
    total = 0.0
    for line in computations[name]:
        if " while(" in line:
            body = re.search(r"body=%?([\w.\-]+)", line)[1]
            condition = re.search(r"condition=%?([\w.\-]+)", line)[1]
            total += trips(computations[condition]) * cycles(computations, body)
        elif " conditional(" in line:
            names = re.search(r"branch_computations=\{([^}]*)\}", line)
            names = (
                names[1].split(",") if names else re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line)
            )
            total += max(cycles(computations, branch.strip(" %")) for branch in names)
        elif " call(" in line:
            total += cycles(computations, re.search(r"to_apply=%?([\w.\-]+)", line)[1])
        elif own := re.search(r'"estimated_cycles":"(\d+)"', line):
            total += int(own[1])
    return total


def trips(condition: list[str]) -> int:
    """How often a loop runs: N where its condition is that a counter from 0 is less than N, otherwise 0.

    The compiler states no trip counts of its own.
    """
    root = next(line for line in condition if line.lstrip().startswith("ROOT"))
    limit = re.search(r" compare\([^,]+, %?([\w.\-]+)\), direction=LT", root)
    found = limit and [
        re.search(r" constant\((\d+)\)", line) for line in condition if f"{limit[1]} = " in line
    ]
    return int(found[0][1]) if found and found[0] else 0


def kernels(computations: dict[str, list[str]], name: str) -> int:
    """Operations of a computation that start on their own, with the bodies of its loops counted once."""
    total = 0
    for line in computations[name]:
        if " while(" in line:
            total += kernels(computations, re.search(r"body=%?([\w.\-]+)", line)[1])
        total += bool(re.search(r" (fusion|custom-call|dot|convolution|sort|scatter|copy|reduce)\(", line))
    return total


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def sets_program(
    chip: str, sets: int, size: int, dtype, kernel: bool = False, **options
) -> tuple[Program, float, float]:
    """(Descriptors of a batch, its multiply-adds, bytes of its input).

    By XLA alone unless `kernel`, because compilers state no cycles for a kernel: see `kernel_cycles.py`.
    `options` are those of the model.
    """
    shape = jax.ShapeDtypeStruct
    net = fpsset.FaceCoresetNet(dtype=dtype, **options)
    faces = fpsset.FaceSet(
        shape((sets, size, DIM), jnp.float32), shape((sets, size), jnp.float32), shape((sets, size), bool)
    )
    variables = jax.eval_shape(net.init, jax.random.key(0), faces)

    def run(variables, faces, prepared):
        out = apply_on_one_device(net, variables, faces, prepared) if kernel else net.apply(variables, faces)
        return out.descriptor, out.norm, out.coreset_indices

    prepared = jax.eval_shape(functools.partial(prepare_kernel, net), variables) if kernel else None

    work = sets * 8 * 3 * DIM**2 + sets * size * 2 * 24 * DIM
    return compile_for(chip, jax.jit(run), variables, faces, prepared), work, 4.0 * sets * size * DIM


def protocol_shapes(chip: str) -> Counter[tuple[int, int]]:
    """How many batches of each shape, sets and slots, a protocol of IJB-C's size has."""
    sizes = long_tailed_sizes(np.random.default_rng(0), 23_124, 469_375)
    return Counter((b.count, b.size) for b in batches(sizes, growth=bucket_growth(CHIPS[chip].platform)))


def protocol_program(chip: str, dtype) -> tuple[str, Program, float, float]:
    """(Name, all shapes of a protocol of IJB-C's size as one, multiply-adds, bytes), of all batches."""
    shapes = protocol_shapes(chip)
    each = {shape: sets_program(chip, *shape, dtype) for shape in shapes}
    programs = {shape: program for shape, (program, *_) in each.items()}

    def total(value: Callable) -> float:
        return sum(value(shape) * count for shape, count in shapes.items())

    whole = Program(
        sum(program.compile_s for program in programs.values()),
        total(lambda shape: programs[shape].cycles),
        max(program.arguments for program in programs.values()),
        max(program.temporary for program in programs.values()),
        {},
        total(lambda shape: programs[shape].kernels),
        sum(program.loops for program in programs.values()),
        "",
    )
    name = f"IJB-C-like, {len(shapes)} shapes, {sum(shapes.values())} batches"
    return name, whole, total(lambda shape: each[shape][1]), total(lambda shape: each[shape][2])


def step_program(chip: str, chips: int, classes: int, dtype) -> Program:
    """A training step on 64 templates of 20 faces a chip, batch and classes split over the chips."""
    mesh = Mesh(devices(chip, chips)[:chips], (AXIS,), axis_types=(AxisType.Auto,))
    model = fpsset.FaceCoresetNet(dtype=dtype)
    head = fpsset.AdaFaceHead(classes, columns=padded_classes(classes, mesh), dtype=dtype)
    optimizer, root = make_optimizer(base_config().optimizer), jax.random.key(0)
    constant = geometric(1.0, 1.0, 10)
    step = make_train_step(model, head, optimizer, root, constant, constant, mesh)
    shape, struct = (64 * chips, SLOTS), jax.ShapeDtypeStruct
    faces = fpsset.FaceSet(
        struct((*shape, DIM), jnp.float32), struct(shape, jnp.float32), struct(shape, jnp.bool_)
    )
    batch = batch_shapes(TrainingBatch(faces, struct(shape[:1], jnp.int32)), mesh)
    state = state_shapes(lambda: init_state(model, head, optimizer, root, DIM), mesh)
    return read_program(lambda: step.lower(state, batch).compile())


def backbone_program(chip: str, batch: int, dtype) -> Program:
    """An IR-101 batch."""
    net = IResNet(ARCHITECTURES["ir_101"], folded=True, dtype=dtype)
    images = jax.ShapeDtypeStruct((batch, 112, 112, 3), jnp.float32)
    variables = jax.eval_shape(net.init, jax.random.key(0), images)
    return compile_for(chip, jax.jit(net.apply), variables, images)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--chips", nargs="+", default=["v5e", "v5p", "v6e"], choices=list(CHIPS))
    parts = ["buckets", "large", "protocol", "step", "backbone"]
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    args = parser.parse_args()
    if "h100" in args.chips and not pathlib.Path(os.environ.get("GPU_TARGET", "")).is_file():
        parser.error("--chips h100 needs GPU_TARGET, the path of a file with the chip's figures")
    rows = []

    def add(chip: str, name: str, dtype, program: Program, work: float = math.nan, read: float = math.nan):
        kind = CHIPS[chip]
        rate = kind.products / (kind.exact if dtype == jnp.float32 else 1)
        sent = ", ".join(f"{n} {kind}" for kind, n in sorted(program.collectives.items()))
        row = [
            chip,
            name,
            jnp.dtype(dtype).name,
            f"{program.compile_s:.0f}",
            f"{program.cycles / 1e6:.2f}",
            f"{program.cycles / kind.clock * 1e3:.2f}",
            f"{max(2 * work / rate, read / kind.memory) * 1e3:.2f}",
            f"{(program.arguments + program.temporary) / 2**20:,.0f}",
            f"{program.kernels}",
            f"{program.loops}",
            sent or "none",
        ]
        print(*row, flush=True)  # a table comes too late where a compiler fails
        rows.append(row)

    for chip in args.chips:
        for dtype in (jnp.float32, jnp.bfloat16):
            shapes = [(1536, 8), (512, 16), (256, 64)] if "buckets" in args.parts else []
            shapes += [(1, 65536)] if "large" in args.parts else []
            for sets, size in shapes:
                add(chip, f"{sets:,} x {size:,}", dtype, *sets_program(chip, sets, size, dtype))
            if "protocol" in args.parts:
                name, program, *floor = protocol_program(chip, dtype)
                add(chip, name, dtype, program, *floor)
            if "step" in args.parts:
                # One GPU alone: its compiler knows no host of eight.
                for chips in (1,) if chip == "h100" else (1, 8, 64):
                    for classes in (10_000, 200_000):
                        name = f"step, {classes:,} classes, {chips} chips"
                        add(chip, name, dtype, step_program(chip, chips, classes, dtype))
            if "backbone" in args.parts:
                add(chip, "IR-101, 256 images", dtype, backbone_program(chip, 256, dtype))
    columns = [
        *("chip", "program", "dtype", "compile, CPU s", "M cycles", "ms", "floor, ms", "MiB", "kernels"),
        *("loops", "collectives"),
    ]
    show("Programs by the chips' compilers, per chip", columns, rows, [])


if __name__ == "__main__":
    main()
