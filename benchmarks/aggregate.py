"""Times descriptors of equal-sized sets: this package, plain JAX, eager PyTorch, and the floor.

pip install -e '.[bench]' && python benchmarks/aggregate.py [--rounds 9]

64 sets at once, because PyTorch batches equal sizes, and one set at a time from 1 to 65,536 faces. The
features are in memory, and the outputs are compared before timing. The floor is the time for the
multiply-adds of the absorbed form at the measured rate of matrix products, or for one read of the features,
whichever is longer.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import torch
from eager import EagerCoresetNet
from plain_jax import aggregate as plain
from timing import Rates, medians, milliseconds, show

import fpsset

SHAPES = [(64, 16), (64, 64), (64, 256), *[(1, 4**power) for power in range(9)]]


def make(sets: int, size: int):
    """Random (embeddings [B, N, 512], unit rows, norms [B, N]), float32 NumPy arrays."""
    rng = np.random.default_rng([sets, size])
    embeddings = rng.standard_normal((sets, size, 512), np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings, rng.uniform(5, 30, (sets, size)).astype(np.float32)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    net = fpsset.FaceCoresetNet()
    variables = net.init(jax.random.key(0), fpsset.FaceSet(*make(1, 4), np.ones((1, 4), bool)))
    theirs = EagerCoresetNet().load(variables["params"]).eval()

    @jax.jit
    def ours(sets):
        out = net.apply(variables, sets)
        return out.descriptor, out.norm

    textbook = jax.jit(lambda sets: plain(variables["params"], sets))
    rates, rows, rate = Rates(), [], ""
    for count, size in SHAPES:
        embeddings, norms = make(count, size)
        sets = fpsset.FaceSet(jnp.asarray(embeddings), jnp.asarray(norms), jnp.ones(norms.shape, bool))
        tensors = torch.from_numpy(embeddings), torch.from_numpy(norms)

        def eager(tensors=tensors):
            with torch.inference_mode():
                return theirs(*tensors)[0].numpy()

        expected = eager()
        if size >= 3:  # in smaller sets the eager model picks a face twice
            for function in (ours, textbook):
                np.testing.assert_allclose(function(sets)[0], expected, atol=2e-5)
        compiled = ours.lower(sets).compile()
        functions = {
            "ours": lambda sets=sets, compiled=compiled: compiled(sets),
            "plain": lambda sets=sets: textbook(sets),
            "eager": eager,
            **rates.functions,
        }
        times = medians(functions, rounds)
        floor, rate = rates.floor(times, count, count * size), rates.line(times)
        rows.append(
            [
                f"{count} x {size}",
                milliseconds(times["ours"]),
                milliseconds(times["plain"]),
                milliseconds(times["eager"]),
                f"{times['plain'] / times['ours']:.1f}",
                f"{times['eager'] / times['ours']:.1f}",
                milliseconds(floor),
                f"{times['ours'] / floor:.2f}",
                f"{compiled.memory_analysis().temp_size_in_bytes / 2**20:.1f}",
            ]
        )
    columns = [
        "sets x faces",
        "fpsset",
        "plain JAX",
        "PyTorch",
        "plain / ours",
        "PyTorch / ours",
        "floor",
        "ours / floor",
        "MiB beyond input",
    ]
    show("Descriptors of equal-sized sets", columns, rows, [rate])


if __name__ == "__main__":
    main()
