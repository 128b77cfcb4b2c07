"""Times all templates of a protocol of IJB-C's size: this package, plain JAX, and PyTorch one at a time.

pip install -e '.[bench]' && python benchmarks/ijbc_like.py [--rounds 3] [--templates 23124] [--faces 469375]

Features are in host memory, one row per face. Times run until all descriptors are on the host, and include
padding, transfers and picks, but not compilation. `packed` lets small sets share rows of slots. PyTorch takes
one template at a time, as the official evaluation does. The floor is the time for the multiply-adds of the
absorbed form at the measured rate of matrix products, or for one read of the features, whichever is longer.
"""

import argparse
import time

import jax
import numpy as np
import torch
from eager import EagerCoresetNet
from plain_jax import aggregate as plain
from timing import Rates, medians, milliseconds, show

import fpsset
from fpsset.data.simulated_ijb import long_tailed_sizes
from fpsset.face_set import RaggedSets
from fpsset.inference.batching import batches
from fpsset.inference.descriptors import describe_one


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--templates", type=int, default=23_124)
    parser.add_argument("--faces", type=int, default=469_375)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    sizes = long_tailed_sizes(rng, args.templates, args.faces)
    embeddings = rng.standard_normal((args.faces, 512), np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    norms = rng.uniform(5, 30, args.faces).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    sets = RaggedSets(embeddings, norms, None, np.arange(args.faces), starts)

    net = fpsset.FaceCoresetNet()
    variables = net.init(jax.random.key(0), sets.pad(np.arange(1), 1, int(sizes[0])))
    theirs = EagerCoresetNet().load(variables["params"]).eval()
    textbook = jax.jit(plain)

    def ours(packed=False):
        return describe_one(net, variables, sets, packed=packed).vectors

    def plain_jax():
        found = np.empty((args.templates, 512), np.float32)
        for which, count, size in batches(sizes):
            found[which] = textbook(variables["params"], sets.pad(which, count, size))[0][: len(which)]
        return found

    def one_at_a_time():
        found = np.empty((args.templates, 512), np.float32)
        with torch.inference_mode():
            for t in range(args.templates):
                rows = slice(starts[t], starts[t + 1])
                one = torch.from_numpy(embeddings[None, rows]), torch.from_numpy(norms[None, rows])
                found[t] = theirs(*one)[0][0].numpy()
        return found

    vectors, first = {}, {}
    for packed in (False, True):
        jax.clear_caches()
        start = time.perf_counter()
        vectors[packed] = ours(packed)
        first[packed] = time.perf_counter() - start
    enough = sizes >= 3  # in smaller sets the eager model picks a face twice
    np.testing.assert_allclose(vectors[True], vectors[False], atol=2e-5)
    np.testing.assert_allclose(vectors[False], plain_jax(), atol=2e-5)
    np.testing.assert_allclose(vectors[False][enough], one_at_a_time()[enough], atol=2e-5)

    rates = Rates()
    functions = {
        "fpsset": ours,
        "fpsset, packed": lambda: ours(packed=True),
        "plain JAX": plain_jax,
        "PyTorch": one_at_a_time,
        **rates.functions,
    }
    times = medians(functions, args.rounds)
    floor = rates.floor(times, args.templates, args.faces)
    rows = [
        [
            name,
            milliseconds(seconds),
            f"{args.templates / seconds:,.0f}",
            f"{seconds / times['fpsset']:.1f}",
            f"{seconds / floor:.2f}",
        ]
        for name, seconds in [
            *((n, times[n]) for n in ("fpsset", "fpsset, packed", "plain JAX", "PyTorch")),
            ("floor", floor),
        ]
    ]
    notes = [f"{args.templates:,} templates of {args.faces:,} faces, 1 to {sizes.max():,}"]
    for packed, name in ((False, "fpsset"), (True, "packed")):
        plan = batches(sizes, packed=packed)
        slots = sum(batch.size * len(batch.which) for batch in plan)
        shapes = {(batch.count, batch.size, *batch.which.shape[1:]) for batch in plan}
        notes.append(
            f"{name}: {len(shapes)} compiled shapes, {1 - args.faces / slots:.0%} of the slots are padding, "
            f"first call {first[packed]:.1f} s with compilations"
        )
    notes.append(rates.line(times))
    columns = ["", "time", "templates/s", "time / ours", "time / floor"]
    show("Descriptors of a protocol of IJB-C's size", columns, rows, notes)


if __name__ == "__main__":
    main()
