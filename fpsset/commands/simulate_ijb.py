"""fpsset simulate-ijb: writes synthetic faces in the layout of IJB."""

import pathlib

import click

from fpsset.commands.options import PATH
from fpsset.runtime.escapes import show


@click.command("simulate-ijb")
@click.argument("target", metavar="OUT", type=PATH)
@click.option(
    "--like", type=click.Choice(["ijbb", "ijbc"]), default="ijbc", show_default=True, help="Protocol."
)
@click.option("--scale", default=1.0, show_default=True, help="Factor of all counts.")
@click.option("--dim", default=512, show_default=True, help="Width of the embeddings.")
@click.option("--seed", default=0, show_default=True, help="Random seed.")
def simulate_ijb(target: pathlib.Path, like: str, scale: float, dim: int, seed: int) -> None:
    """Write synthetic faces in the layout and size of IJB-B or IJB-C.

    OUT gets lists in meta/ and a pickle of features in the official formats, to try every step and its cost
    without the real data.
    """
    from fpsset.data.simulated_ijb import simulate_ijb

    counts = simulate_ijb(target, like, scale, seed, dim)
    show(f"{target}: " + ", ".join(f"{count} {name}" for name, count in counts._asdict().items()))
