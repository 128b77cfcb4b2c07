"""Estimates the cost of a training step on many chips from the programs that XLA compiles for them.

python benchmarks/cost_model.py [--classes 200000] [--per-chip 64] [--chips 1 8 64 256]

Nothing is run: the step is compiled for that many CPU devices, and its program is analysed. Multiply-adds and
bytes per chip come from XLA's cost analysis; messages are counted in the program. Times follow from a chip's
published rates and are lower bounds: the longer of arithmetic and memory traffic, plus messages around a
ring.
"""

import argparse
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fpsset
from fpsset.config import base_config
from fpsset.data.pipeline import TrainingBatch
from fpsset.parallel.mesh import batch_shapes, data_mesh, padded_classes, state_shapes
from fpsset.training.optimizer import make_optimizer
from fpsset.training.step import geometric, init_state, make_train_step

DIM, SLOTS = 512, 20
_KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "pred": 1}


class Cost(NamedTuple):
    """The cost of one step, per chip."""

    multiply_adds: float
    bytes: float  # read and written by the operations
    state: int  # bytes of parameters, moments and batch
    temporary: int  # bytes of memory beyond the state
    messages: dict[str, tuple[int, float]]  # kind -> (number, bytes that a chip sends)


def step_cost(chips: int, per_chip: int, classes: int) -> Cost:
    """Compiles the step for a number of chips and analyses its program."""
    mesh = data_mesh(jax.devices()[:chips])
    model, head = fpsset.FaceCoresetNet(), fpsset.AdaFaceHead(classes, columns=padded_classes(classes, mesh))
    optimizer, root = make_optimizer(base_config().optimizer), jax.random.key(0)
    constant = geometric(1.0, 1.0, 10)
    step = make_train_step(model, head, optimizer, root, constant, constant, mesh)
    shape = (chips * per_chip, SLOTS)
    batch = TrainingBatch(
        fpsset.FaceSet(
            jax.ShapeDtypeStruct((*shape, DIM), jnp.float32),
            jax.ShapeDtypeStruct(shape, jnp.float32),
            jax.ShapeDtypeStruct(shape, jnp.bool_),
        ),
        jax.ShapeDtypeStruct(shape[:1], jnp.int32),
    )
    state = state_shapes(lambda: init_state(model, head, optimizer, root, DIM), mesh)
    program = step.lower(state, batch_shapes(batch, mesh)).compile()
    analysis, memory = program.cost_analysis(), program.memory_analysis()
    return Cost(
        analysis["flops"] / 2,
        analysis["bytes accessed"],
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        messages(program.as_text(), chips),
    )


def messages(program: str, chips: int) -> dict[str, tuple[int, float]]:
    """Messages between chips in HLO: kind -> (number, bytes that each chip sends around a ring)."""
    found: dict[str, tuple[int, float]] = {}
    for results, kind in re.findall(rf"= (.*?) ({'|'.join(_KINDS)})(?:-start)?\(", program):
        size = sum(
            _BYTES[dtype] * np.prod([int(n) for n in shape.split(",") if n])
            for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", results)
        )
        # In a ring, a chip sends everything except its own part, and in an all-reduce twice.
        whole = size * chips if kind == "reduce-scatter" else size
        sent = whole * (chips - 1) / chips * (2 if kind == "all-reduce" else 1)
        number, total = found.get(kind, (0, 0.0))
        found[kind] = number + 1, total + sent
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--classes", type=int, default=200_000)
    parser.add_argument("--per-chip", type=int, default=64, help="templates of 20 faces per chip")
    parser.add_argument("--chips", type=int, nargs="+", default=[1, 8, 64, 256])
    # A TPU v5e's published rates of bfloat16 products, memory and a link one way; the delay is a guess.
    parser.add_argument("--flops", type=float, default=197e12)
    parser.add_argument("--memory", type=float, default=819e9, help="bytes/s")
    parser.add_argument("--link", type=float, default=100e9, help="bytes/s that a chip can send")
    parser.add_argument("--delay", type=float, default=10e-6, help="seconds per message")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(args.chips))
    from timing import show

    rows, notes = [], []
    for chips in args.chips:
        cost = step_cost(chips, args.per_chip, args.classes)
        work = max(2 * cost.multiply_adds / args.flops, cost.bytes / args.memory)
        number = sum(n for n, _ in cost.messages.values())
        sent = sum(b for _, b in cost.messages.values())
        communication = sent / args.link + number * args.delay
        rows.append(
            [
                f"{chips}",
                f"{chips * args.per_chip:,}",
                f"{cost.multiply_adds / 1e9:.1f}",
                f"{cost.bytes / 1e9:.2f}",
                f"{cost.state / 2**20:,.0f}",
                f"{cost.temporary / 2**20:,.0f}",
                f"{number}",
                f"{sent / 1e6:.1f}",
                f"{1e3 * work:.2f}",
                f"{1e3 * communication:.2f}",
                f"{chips * args.per_chip / (work + communication):,.0f}",
            ]
        )
        kinds = [f"{n} {kind}" for kind, (n, _) in sorted(cost.messages.items())]
        notes.append(f"messages on {chips} chips: {', '.join(kinds) or 'none'}")
    columns = [
        *("chips", "batch", "G mul-add", "GB moved", "MiB state", "MiB temp"),
        *("messages", "MB sent", "ms work", "ms comm", "sets/s"),
    ]
    title = f"A step, per chip: {args.classes:,} classes, {args.per_chip} templates of {SLOTS} faces per chip"
    show(title, columns, rows, notes)


if __name__ == "__main__":
    main()
