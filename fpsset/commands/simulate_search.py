"""fpsset simulate-search: writes synthetic faces in the layout of TinyFace or IJB-S."""

import json
import pathlib

import click

from fpsset.commands.options import json_option, simulation_options
from fpsset.runtime.escapes import show


@click.command("simulate-search")
@simulation_options("tinyface", "ijbs")
@json_option
def simulate_search(
    target: pathlib.Path, like: str, scale: float, dim: int, seed: int, as_json: bool
) -> None:
    """Write synthetic faces in the layout of TinyFace or IJB-S.

    OUT gets the lists in the official formats and features.npz, for fpsset identify.
    """
    from fpsset.data.simulated_searches import simulate_search as simulate

    counts = simulate(target, like, scale, seed, dim)
    if as_json:
        click.echo(json.dumps({"out": str(target), **counts}))
        return
    show(f"{target}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
