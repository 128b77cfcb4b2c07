"""Parity and speed on one accelerator, beside eager PyTorch on the same one; `on_gpu.sh` runs all parts.

python benchmarks/gpu.py parity --golden FOLDER | inference | training | backbone
"""

import argparse
import importlib.util
import os
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
from backbone import Backbone
from eager import EagerAdaFace, EagerCoresetNet
from timing import milliseconds, show

import fpsset
from fpsset.config import base_config
from fpsset.data.pipeline import TrainingBatch
from fpsset.models.iresnet import ARCHITECTURES, IResNet, fold
from fpsset.training.optimizer import make_optimizer
from fpsset.training.step import geometric, init_state, make_train_step
from fpsset.weights.torch_aggregator import aggregator_params
from fpsset.weights.torch_backbone import backbone_variables

BRIEF = os.environ.get("FPSSET_GPU_BRIEF") == "1"
PLACE = "cuda" if torch.cuda.is_available() else "cpu"
# Published figures of a Hopper GPU: FLOP/s of float32 and bfloat16 products; the memory's rate by name.
FLOAT32, BFLOAT16 = 67e12, 989e12
MEMORY = {"H100": 3.35e12, "H200": 4.8e12}
# Multiply-adds: a set's eight projections of three rows, and a face's products with 24 rows, twice.
SET_FLOPS, FACE_FLOPS, FACE_BYTES = 2 * 6.3e6, 2 * 2 * 24 * 512, 2052


def seconds(function, rounds: int = 5, repeats: int = 10) -> float:
    """Median over rounds of the mean time of `repeats` calls that follow each other, after warming up."""
    if BRIEF:
        rounds, repeats = 1, 1
    found = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(repeats):
            last = function()
        jax.block_until_ready(last)
        if PLACE == "cuda":
            torch.cuda.synchronize()
        found.append((time.perf_counter() - start) / repeats)
    return float(np.median(found[1:]))


def rates() -> tuple[float, float, float]:
    """Measured FLOP/s of float32 and bfloat16 products, and bytes/s of a copy, read and written."""
    size = 512 if BRIEF else 8192
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    exact = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    narrow, half = jax.jit(lambda a: a @ a), matrix.astype(jnp.bfloat16)
    large = jnp.ones((1 << 22 if BRIEF else 1 << 30,), jnp.float32)
    copy = jax.jit(lambda a: a + 1)
    flops = 2 * size**3
    return (
        flops / seconds(lambda: exact(matrix)),
        flops / seconds(lambda: narrow(half)),
        2 * large.nbytes / seconds(lambda: copy(large)),
    )


def faces(sets: int, size: int):
    """Random (embeddings [B, N, 512], norms [B, N]) on the device."""
    key = jax.random.key(sets + size)
    rows = jax.random.normal(key, (sets, size, 512))
    return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True), jax.random.uniform(
        key, (sets, size), minval=5.0, maxval=30.0
    )


def parity(golden: pathlib.Path) -> None:
    """Picks, descriptors, a backbone's embeddings and a training loss against the official code's values."""
    spec = importlib.util.spec_from_file_location("weights_rule", golden / "weights_rule.py")
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    state = rule.state_dict("ir_18", ("aggregate_model.", "head."))
    variables, rows = {"params": aggregator_params(state)}, []
    for dtype in (jnp.float32, jnp.bfloat16):
        net = jax.jit(fpsset.FaceCoresetNet(dtype=dtype).apply)
        worst, cosine, same = 0.0, 1.0, 0
        with np.load(golden / "aggregator_eval.npz") as file:
            cases = {key.split("/")[0] for key in file.files}
            for case in sorted(cases):
                embeddings, norms = file[f"{case}/embeddings"][None], file[f"{case}/norms"][None]
                out = net(variables, fpsset.FaceSet(embeddings, norms, np.ones(norms.shape, bool)))
                picks, expected = np.asarray(out.coreset_indices[0]), file[f"{case}/descriptor"]
                same += np.array_equal(picks[picks >= 0], file[f"{case}/selected"])
                worst = max(worst, float(np.abs(np.asarray(out.descriptor[0]) - expected).max()))
                cosine = min(cosine, float(np.asarray(out.descriptor[0]) @ expected.reshape(-1)))
        rows.append([jnp.dtype(dtype).name, f"{same} of {len(cases)}", f"{worst:.1e}", f"{cosine:.7f}"])
        if dtype == jnp.float32:
            assert same == len(cases) and worst < 2e-5, rows
    show("Against golden values", ["", "same picks", "largest difference", "least cosine"], rows, [])


def inference() -> None:
    """Descriptors of sets against eager PyTorch, and the share of the roofline."""
    exact, narrow, memory = rates()
    net = fpsset.FaceCoresetNet()
    variables = net.init(jax.random.key(0), fpsset.FaceSet(*faces(1, 4), jnp.ones((1, 4), bool)))
    theirs = EagerCoresetNet().load(variables["params"]).eval().to(PLACE)
    shapes = [(64, 16), (4, 256)] if BRIEF else [(1536, 8), (256, 64), (1, 65536)]
    rows = []
    for count, size in shapes:
        embeddings, norms = faces(count, size)
        sets = fpsset.FaceSet(embeddings, norms, jnp.ones(norms.shape, bool))
        tensors = tuple(torch.tensor(np.asarray(x), device=PLACE) for x in (embeddings, norms))

        def eager(half: bool = False, tensors=tensors):
            with torch.inference_mode(), torch.autocast(PLACE, torch.bfloat16, enabled=half):
                return theirs(*tensors)[0]

        expected = eager().float().cpu().numpy()
        for dtype in (jnp.float32, jnp.bfloat16):
            run = jax.jit(fpsset.FaceCoresetNet(dtype=dtype).apply)
            start = time.perf_counter()
            found = np.asarray(run(variables, sets).descriptor)
            compiling = time.perf_counter() - start
            ours = seconds(lambda run=run, sets=sets: run(variables, sets).descriptor)
            other = seconds(lambda half=dtype == jnp.bfloat16: eager(half))
            work = count * SET_FLOPS + count * size * FACE_FLOPS
            rate = exact if dtype == jnp.float32 else narrow
            floor = max(work / rate, count * size * FACE_BYTES / (memory / 2))
            rows.append(
                [
                    f"{count} x {size}",
                    jnp.dtype(dtype).name,
                    milliseconds(ours),
                    milliseconds(other),
                    f"{other / ours:.1f}",
                    f"{floor / ours:.0%}",
                    f"{compiling:.0f} s",
                    f"{np.abs(found - expected).max():.0e}",
                    f"{(found * expected).sum(1).min():.6f}",
                ]
            )
            print(*rows[-1], flush=True)  # a table comes too late where time runs out
    columns = [
        "sets x faces",
        "",
        "fpsset",
        "PyTorch",
        "PyTorch / ours",
        "of the roofline",
        "compiled in",
        "apart",
        "cosine",
    ]
    note = (
        f"measured: {exact / 1e12:.0f} TFLOP/s float32, {narrow / 1e12:.0f} bfloat16, {memory / 1e9:.0f} GB/s"
    )
    show("Descriptors", columns, rows, [note])


def training() -> None:
    """A training step against eager PyTorch."""
    rows = []
    shapes = [(8, 100)] if BRIEF else [(512, 10_000), (512, 200_000)]
    for batch, classes in shapes:
        rng = np.random.default_rng(0)
        embeddings, norms = faces(batch, 20)
        labels = rng.integers(0, classes, batch).astype(np.int32)
        data = TrainingBatch(
            fpsset.FaceSet(embeddings, norms, jnp.ones(norms.shape, bool)), jnp.asarray(labels)
        )
        for dtype in (jnp.float32, jnp.bfloat16):
            model, head = fpsset.FaceCoresetNet(dtype=dtype), fpsset.AdaFaceHead(classes, dtype=dtype)
            optimizer, constant = make_optimizer(base_config().optimizer), geometric(1.0, 1.0, 10)
            root = jax.random.key(0)
            step = make_train_step(model, head, optimizer, root, constant, constant)
            held = [jax.jit(lambda m=model, h=head, o=optimizer, r=root: init_state(m, h, o, r, 512))()]

            def ours(held=held, step=step, data=data):
                held[0], metrics = step(held[0], data)
                return metrics["loss"]

            torch.manual_seed(0)
            net, margin = EagerCoresetNet().to(PLACE), EagerAdaFace(classes).to(PLACE)
            gamma = [net.gamma]
            rest = [p for n, p in [*net.named_parameters(), *margin.named_parameters()] if n != "gamma"]
            groups = [{"params": gamma, "weight_decay": 0.0}, {"params": rest, "weight_decay": 1e-3}]
            adam = torch.optim.AdamW(groups, lr=1e-4, fused=PLACE == "cuda")
            tensors = tuple(torch.tensor(np.asarray(x), device=PLACE) for x in (embeddings, norms))
            wanted = torch.tensor(labels, dtype=torch.long, device=PLACE)
            half = dtype == jnp.bfloat16

            def eager(
                net=net, margin=margin, adam=adam, tensors=tensors, wanted=wanted, half=half, every=rest
            ):
                adam.zero_grad(set_to_none=True)
                with torch.autocast(PLACE, torch.bfloat16, enabled=half):
                    descriptor, norm = net(*tensors)
                    loss = margin(descriptor, norm.float(), wanted)
                loss.backward()
                torch.nn.utils.clip_grad_norm_([net.gamma, *every], 1.0)
                adam.step()
                return loss.detach()

            start = time.perf_counter()
            jax.block_until_ready(ours())
            compiling = time.perf_counter() - start
            times = seconds(ours), seconds(eager)
            rows.append(
                [
                    f"{batch}",
                    f"{classes:,}",
                    jnp.dtype(dtype).name,
                    *map(milliseconds, times),
                    f"{times[1] / times[0]:.1f}",
                    f"{batch / times[0]:,.0f}",
                    f"{compiling:.0f} s",
                ]
            )
            print(*rows[-1], flush=True)
            del held, net, margin, adam, tensors
    columns = [
        "templates of 20",
        "classes",
        "",
        "fpsset",
        "PyTorch",
        "PyTorch / ours",
        "templates/s",
        "compiled in",
    ]
    show("A training step", columns, rows, [])


def backbone() -> None:
    """Images per second of IR-101 against eager PyTorch."""
    arch, sizes = ("ir_18", [2]) if BRIEF else ("ir_101", [32, 256])
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    config, rows = ARCHITECTURES[arch], []
    theirs = Backbone(config)
    images = np.random.default_rng(0).uniform(-1, 1, (max(sizes), 112, 112, 3)).astype(np.float32)
    theirs.train()(torch.from_numpy(images[:16].transpose(0, 3, 1, 2)))  # sets the running statistics
    state = {key: value.numpy() for key, value in theirs.eval().state_dict().items()}
    variables = jax.device_put(fold(jax.tree.map(jnp.asarray, backbone_variables(state, config))))
    theirs = theirs.to(PLACE).to(memory_format=torch.channels_last)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    for size in sizes:
        batch = torch.tensor(images[:size].transpose(0, 3, 1, 2), device=PLACE)
        batch = batch.to(memory_format=torch.channels_last)
        ours = jnp.asarray(images[:size])
        expected = theirs(batch)[0].float().cpu().numpy()
        for dtype in (jnp.float32, jnp.bfloat16):
            run = jax.jit(IResNet(config, folded=True, dtype=dtype).apply)
            found = np.asarray(run(variables, ours)[0])
            mine = seconds(lambda run=run, ours=ours: run(variables, ours)[0], 3, 5)

            def eager(batch=batch, half=dtype == jnp.bfloat16):
                with torch.autocast(PLACE, torch.bfloat16, enabled=half):
                    return theirs(batch)[0]

            other = seconds(eager, 3, 5)
            rows.append(
                [
                    f"{size}",
                    jnp.dtype(dtype).name,
                    *(f"{size / time:,.0f}" for time in (mine, other)),
                    f"{other / mine:.2f}",
                    f"{np.abs(found - expected).max():.0e}",
                    f"{(found * expected).sum(1).min():.6f}",
                ]
            )
    columns = ["batch", "", "fpsset, images/s", "PyTorch, images/s", "ratio", "apart", "cosine"]
    show(f"{config.name} without TF32", columns, rows, [])


def main() -> None:
    """Runs one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=["parity", "inference", "training", "backbone"])
    parser.add_argument("--golden", type=pathlib.Path)
    args = parser.parse_args()
    if args.part == "parity":
        if args.golden is None or not args.golden.is_dir():
            print(f"{args.golden}: no golden values here; parity is left out")
            return
        parity(args.golden)
    else:
        {"inference": inference, "training": training, "backbone": backbone}[args.part]()


if __name__ == "__main__":
    main()
