"""Measures images per second of extraction's backbone on one device and on all devices of the process.

JAX_NUM_CPU_DEVICES=2 python benchmarks/extraction.py [--arch ir_101] [--batch 64] [--rounds 5]

Weights are random. Batches of uint8 faces in memory are normalised, sent, embedded and read back. Rounds
alternate between the numbers of devices.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from timing import show

from fpsset.images.recognisers import backbone_recogniser
from fpsset.models.iresnet import ARCHITECTURES, IMAGE_SIZE, IResNet, fold
from fpsset.weights.cards import BackboneCard


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--arch", default="ir_101", choices=["ir_18", "ir_34", "ir_50", "ir_101"])
    flags.add_argument("--batch", type=int, default=64)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    options = flags.parse_args()

    side = IMAGE_SIZE
    net = IResNet(ARCHITECTURES[options.arch])
    variables = fold(jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, side, side, 3))))
    card = BackboneCard("random", "bgr", 127.5, 127.5, "")
    faces = np.random.default_rng(0).integers(0, 256, (options.batch, side, side, 3), np.uint8)
    counts = sorted({1, len(jax.devices())})
    recognisers = {n: backbone_recogniser(card, variables, options.dtype, jax.devices()[:n]) for n in counts}
    found = {n: recogniser(faces)[0] for n, recogniser in recognisers.items()}  # compiles
    seconds = {n: [] for n in counts}
    for _ in range(options.rounds):
        for n, recogniser in recognisers.items():
            start = time.perf_counter()
            recogniser(faces)
            seconds[n].append(time.perf_counter() - start)

    rows = []
    for n, times in seconds.items():
        slowest, middle, fastest = (options.batch / f(times) for f in (max, statistics.median, min))
        apart = np.abs(found[n] - found[1]).max()
        rows.append([str(n), f"{middle:.2f}", f"{slowest:.2f} to {fastest:.2f}", f"{apart:.1e}"])
    title = f"{options.arch}, {options.dtype}, batches of {options.batch}, {options.rounds} rounds"
    columns = ["devices", "images/s, median", "range", "largest difference from one device"]
    show(title, columns, rows, [])


if __name__ == "__main__":
    main()
