"""A stand-in for a published checkpoint, and the same converted, as examples in docstrings read them."""

import pathlib

import fpsset
from fpsset.weights.cards import save_weights
from tests.torch_files import TINY, aggregator_state, random_variables, save, state_dict


def write_published(folder: pathlib.Path) -> None:
    """FaceCoresetNet.ckpt as Lightning lays it out, and runs/quickstart."""
    backbone = state_dict(random_variables(TINY), TINY, "model.")
    hyperparameters = {"coreset_size": 2, "m": 0.7, "h": 0.3, "s": 32.0}
    content = {"state_dict": backbone | aggregator_state(32), "hyper_parameters": hyperparameters}
    save(folder / "FaceCoresetNet.ckpt", content)
    save_weights(folder / "runs/quickstart", fpsset.load_official(folder / "FaceCoresetNet.ckpt"))
