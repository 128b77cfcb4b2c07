"""Times a training step: this package against eager PyTorch with autograd, on the same batch.

pip install -e '.[bench]' && python benchmarks/train_step.py [--rounds 9] [--batch 64] [--classes 10000]

All templates have 20 faces, because PyTorch batches equal sizes. A step is forward pass, loss, gradients,
clipping and AdamW; both sides use dropout and Gumbel noise. `bfloat16` is this package with
`config.model.dtype=bfloat16`; `ragged` has masked templates of 1 to 20 faces.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import torch
from eager import EagerAdaFace, EagerCoresetNet
from timing import medians, milliseconds, show

import fpsset
from fpsset.config import base_config
from fpsset.data.pipeline import TrainingBatch
from fpsset.training.optimizer import make_optimizer
from fpsset.training.step import geometric, init_state, make_train_step


def stepper(batch: TrainingBatch, classes: int, dtype):
    """(A function that takes one step of this package, bytes of memory its program uses beyond the state)."""
    model, head = fpsset.FaceCoresetNet(dtype=dtype), fpsset.AdaFaceHead(classes, dtype=dtype)
    optimizer, root = make_optimizer(base_config().optimizer), jax.random.key(0)
    constant = geometric(1.0, 1.0, 10)
    step = make_train_step(model, head, optimizer, root, constant, constant)
    state = jax.jit(lambda: init_state(model, head, optimizer, root, 512))()
    memory = step.lower(state, batch).compile().memory_analysis().temp_size_in_bytes

    def once():
        nonlocal state
        state, metrics = step(state, batch)
        return metrics["loss"]

    return once, memory


def eager_stepper(batch: TrainingBatch, classes: int):
    """A function that takes the same step in eager PyTorch."""
    torch.manual_seed(0)
    model, head = EagerCoresetNet(), EagerAdaFace(classes)
    gamma = [model.gamma]
    rest = [p for name, p in [*model.named_parameters(), *head.named_parameters()] if name != "gamma"]
    groups = [{"params": gamma, "weight_decay": 0.0}, {"params": rest, "weight_decay": 1e-3}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4)
    embeddings, norms = (
        torch.tensor(np.asarray(x)) for x in (batch.face_set.embeddings, batch.face_set.norms)
    )
    labels = torch.tensor(np.asarray(batch.labels), dtype=torch.long)

    def once():
        optimizer.zero_grad(set_to_none=True)
        loss = head(*model(embeddings, norms), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*gamma, *rest], 1.0)
        optimizer.step()
        return float(loss.detach())

    return once


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--classes", type=int, default=10_000)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((args.batch, 20, 512), np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
    norms = rng.uniform(5, 30, (args.batch, 20)).astype(np.float32)
    labels = rng.integers(0, args.classes, args.batch).astype(np.int32)
    full = fpsset.FaceSet(embeddings, norms, np.ones(norms.shape, bool))
    ragged = full.replace(mask=np.arange(20) < rng.integers(1, 21, args.batch)[:, None])

    functions, memory = {"PyTorch": eager_stepper(TrainingBatch(full, labels), args.classes)}, {}
    for name, face_set, dtype in (
        ("fpsset", full, jnp.float32),
        ("fpsset, ragged", ragged, jnp.float32),
        ("fpsset, bfloat16", full, jnp.bfloat16),
    ):
        functions[name], memory[name] = stepper(TrainingBatch(face_set, labels), args.classes, dtype)
    times = medians(functions, args.rounds)
    rows = [
        [
            name,
            milliseconds(seconds),
            f"{args.batch / seconds:,.0f}",
            f"{times['PyTorch'] / seconds:.2f}",
            f"{memory[name] / 2**20:.0f}" if name in memory else "",
        ]
        for name, seconds in times.items()
    ]
    columns = ["", "step", "templates/s", "PyTorch / this", "MiB beyond the state"]
    show(f"A step on {args.batch} templates of 20, {args.classes:,} classes", columns, rows, [])


if __name__ == "__main__":
    main()
