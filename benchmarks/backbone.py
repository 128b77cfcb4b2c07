"""Measures images per second of an IR backbone: this package against eager PyTorch with the same weights.

pip install -e '.[bench]' && python benchmarks/backbone.py [--arch ir_101] [--batch 32] [--rounds 5]

Both take the same normalised batch from memory and return embeddings and norms. Rounds alternate, and the
medians are compared. On CPUs, PyTorch uses its default layout and threads.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import fpsset
from fpsset.models.iresnet import ARCHITECTURES, IResNetConfig, fold
from fpsset.weights.torch_backbone import backbone_variables


class Residual(nn.Module):
    """A basic block; a shortcut between equal widths subsamples pixels by the stride."""

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.shortcut_layer = None
        if width_in != width:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(width_in),
            nn.Conv2d(width_in, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x):  # noqa: D102
        shortcut = self.shortcut_layer(x) if self.shortcut_layer else x[:, :, :: self.stride, :: self.stride]
        return self.res_layer(x) + shortcut


class Backbone(nn.Module):
    """The network in PyTorch, under the names that published state dicts use."""

    def __init__(self, config: IResNetConfig):
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        )
        self.body = nn.Sequential(*(Residual(b.width_in, b.width, b.stride) for b in config.blocks()))
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512), nn.Dropout(0.4), nn.Flatten(), nn.Linear(512 * 49, 512),
            nn.BatchNorm1d(512, affine=False),
        )  # fmt: skip

    def forward(self, images):  # noqa: D102
        x = self.output_layer(self.body(self.input_layer(images)))
        norms = x.norm(dim=1, keepdim=True)
        return x / norms, norms[:, 0]


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--arch", default="ir_101", choices=["ir_18", "ir_34", "ir_50", "ir_101"])
    flags.add_argument("--batch", type=int, default=32)
    flags.add_argument("--rounds", type=int, default=5)
    options = flags.parse_args()

    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    config = ARCHITECTURES[options.arch]
    theirs = Backbone(config).eval()
    images = np.random.default_rng(0).uniform(-1, 1, (options.batch, 112, 112, 3)).astype(np.float32)
    theirs.train()(torch.from_numpy(images.transpose(0, 3, 1, 2)))  # sets the running statistics
    theirs.eval()
    state = {key: value.numpy() for key, value in theirs.state_dict().items()}
    variables = fold(jax.tree.map(jnp.asarray, backbone_variables(state, config)))
    batch = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    sides = {
        "PyTorch eager": lambda: theirs(batch)[0].numpy(),
        "fpsset": lambda: np.asarray(fpsset.embed(variables, images)[0]),
        "fpsset, bfloat16": lambda: np.asarray(fpsset.embed(variables, images, dtype=jnp.bfloat16)[0]),
    }
    embeddings = {name: run() for name, run in sides.items()}  # compiles
    seconds = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    rates = {name: options.batch / statistics.median(values) for name, values in seconds.items()}

    title = (
        f"{config.name}, batches of {options.batch}, {jax.devices()[0].platform}, torch {torch.__version__}"
    )
    table = Table("", "images/s", "ratio", "least cosine", title=title)
    for name, rate in rates.items():
        cosine = (embeddings[name] * embeddings["PyTorch eager"]).sum(1).min()
        table.add_row(name, f"{rate:.1f}", f"{rate / rates['PyTorch eager']:.2f}", f"{min(cosine, 1):.6f}")
    Console().print(table)


if __name__ == "__main__":
    main()
