"""fpsset simulate-ijb: writes synthetic faces in the layout of IJB."""

import json
import pathlib

import click

from fpsset.commands.options import PATH, json_option, simulation_options
from fpsset.errors import InputError
from fpsset.runtime.escapes import show

_TRAINING_PEOPLE = 2000


@click.command("simulate-ijb")
@simulation_options("ijbc", "ijbb")
@click.option(
    "--train",
    type=PATH,
    metavar="FILE",
    help=f"Also write features of {_TRAINING_PEOPLE} other people, to train or fit a model on.",
)
@json_option
def simulate_ijb(
    target: pathlib.Path,
    like: str,
    scale: float,
    dim: int,
    seed: int,
    train: pathlib.Path | None,
    as_json: bool,
) -> None:
    """Write synthetic faces in the layout and size of IJB-B or IJB-C.

    OUT gets lists in meta/ and a pickle of features in the official formats, to try every step and its cost
    without the real data.

    \b
      fpsset simulate-ijb simulated/IJBC --scale 0.02 --train simulated/train.npz
      fpsset fit simulated/train.npz simulated/model
      fpsset eval ijbc --weights=simulated/model --data.eval=simulated/IJBC
    """
    from fpsset.data.files import require_writable, write_features
    from fpsset.data.simulated_ijb import simulate_ijb
    from fpsset.data.synthetic import make_synthetic

    if train is not None:
        require_writable(train)
        if train.exists():
            raise InputError(f"{train}: exists already; give a new file")
    counts = simulate_ijb(target, like, scale, seed, dim)
    if train is not None:
        write_features(train, make_synthetic(_TRAINING_PEOPLE, seed, dim)[0])
    if as_json:
        click.echo(json.dumps({"out": str(target), **counts._asdict()}))
        return
    show(f"{target}: " + ", ".join(f"{count} {name}" for name, count in counts._asdict().items()))
    if train is not None:
        show(f"{train}: faces of {_TRAINING_PEOPLE} other people")
