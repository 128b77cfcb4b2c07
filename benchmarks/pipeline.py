"""Measures what the input pipeline costs a training step, in waiting and in work.

python benchmarks/pipeline.py [--steps 200] [--people 4000] [--dim 512]

Prints two tables. The first: a whole training step, the part of it spent waiting for the batch, the loader
running alone, and the obvious loader (one template at a time, in a Python loop). The second: how fast the
loader delivers batches of several sizes, in float32 and float16, beside np.copyto of as many bytes, timed in
turn.
"""

import argparse
import time

import jax
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from fpsset.config import base_config
from fpsset.data.pipeline import training_batches
from fpsset.data.synthetic import make_synthetic
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.models.margin_heads import AdaFaceHead
from fpsset.training.optimizer import make_optimizer
from fpsset.training.step import geometric, init_state, make_train_step


def one_by_one(table, batch_size: int, rng: np.random.Generator):
    """The obvious loader: loops over templates, clips and frames."""
    seeds = {}
    for row, (subject, seed) in enumerate(zip(table.subject.tolist(), table.seed.tolist(), strict=True)):
        seeds.setdefault(subject, {}).setdefault(seed, []).append(row)
    while True:
        embeddings = np.zeros((batch_size, 20, table.dim), np.float32)
        norms, mask = np.zeros((batch_size, 20), np.float32), np.zeros((batch_size, 20), bool)
        for b, subject in enumerate(rng.integers(0, len(seeds), batch_size).tolist()):
            size, place = int(rng.integers(1, 21)), 0
            choices = list(seeds[subject].values())
            while place < size:
                frames = choices[rng.integers(len(choices))]
                count = min(int(rng.integers(1, 4)), len(frames), size - place)
                for row in rng.permutation(frames)[:count]:
                    embeddings[b, place], norms[b, place] = table.embeddings[row], table.norms[row]
                    mask[b, place], place = True, place + 1
        yield embeddings, norms, mask


def delivery(table, batch_size: int, dtype: str, rounds: int = 5) -> list[str]:
    """A row of the second table: medians over rounds, in which batches are loaded and then copied."""
    batches, count = training_batches(table, batch_size, 2, dtype=dtype), max(10, 8192 // batch_size)
    features = np.asarray(next(batches).face_set.embeddings)
    into, loads, copies = np.zeros_like(features), [], []
    for _ in range(rounds + 1):  # the first fills buffers and caches
        loads.append(milliseconds(lambda: next(batches), count))
        time.sleep(0.2 + 5e-3 * loads[-1])  # the loader reads ahead until its buffer is full
        copies.append(milliseconds(lambda: np.copyto(into, features), count))
        for _ in range(6):
            next(batches)  # those read ahead
    load, copy = (float(np.median(times[1:])) for times in (loads, copies))
    rate, copied = (features.nbytes / value / 1e6 for value in (load, copy))
    figures = f"{batch_size / load * 1e3:,.0f}", f"{rate:.1f}", f"{copied:.1f}", f"{rate / copied:.0%}"
    return [f"{batch_size:,}", dtype, *figures]


def milliseconds(function, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - start) / times * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--people", type=int, default=4000)
    parser.add_argument("--dim", type=int, default=512)
    arguments = parser.parse_args()
    flags.FLAGS.mark_as_parsed()
    config = base_config()
    table, _ = make_synthetic(arguments.people, 0, arguments.dim)
    model, head = FaceCoresetNet(), AdaFaceHead(arguments.people)
    optimizer, root = make_optimizer(config.optimizer), jax.random.key(0)
    constant = geometric(1.0, 1.0, 1)
    step = make_train_step(model, head, optimizer, root, constant, constant)
    state = jax.jit(lambda: init_state(model, head, optimizer, root, arguments.dim))()

    batches = training_batches(table, config.batch_size, seed=0)
    for _ in range(5):
        state, metrics = step(state, next(batches))
    jax.block_until_ready(metrics)
    waited, start = 0.0, time.perf_counter()
    for _ in range(arguments.steps):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        state, metrics = step(state, batch)
        float(metrics["loss"])
    whole = (time.perf_counter() - start) / arguments.steps * 1e3
    waiting = waited / arguments.steps * 1e3

    alone = training_batches(table, config.batch_size, seed=1)
    next(alone)
    working = milliseconds(lambda: next(alone), arguments.steps)
    naive = one_by_one(table, config.batch_size, np.random.default_rng(0))
    next(naive)
    looping = milliseconds(lambda: next(naive), max(10, arguments.steps // 10))

    faces = f"{arguments.people} people, {len(table)} faces, D {arguments.dim}"
    report = Table(title=f"{config.batch_size} templates a step, {faces}")
    report.add_column("what")
    report.add_column("ms per batch", justify="right")
    report.add_column("share of a step", justify="right")
    for what, value in (
        ("training step, total", whole),
        ("  of which waiting for data", waiting),
        ("this loader alone", working),
        ("a Python loop over templates", looping),
    ):
        report.add_row(what, f"{value:.2f}", f"{value / whole:.1%}")
    console = Console(width=90)
    console.print(report)
    columns = ("batch", "features", "templates/s", "GB/s of features", "GB/s of np.copyto", "share")
    fed = Table(*columns, title="this loader alone")
    for batch_size in (64, 512, 4096):
        for dtype in ("float32", "float16"):
            fed.add_row(*delivery(table, batch_size, dtype))
    console.print(fed)


if __name__ == "__main__":
    main()
