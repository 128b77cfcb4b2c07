"""A small published checkpoint, and its backbone."""

import pytest

from tests.torch_files import TINY, aggregator_state, random_variables, state_dict


@pytest.fixture(scope="session")
def backbone():
    return random_variables(TINY)


@pytest.fixture(scope="session")
def official(backbone):
    """A FaceCoresetNet checkpoint in Lightning's layout."""
    inner = state_dict(backbone, TINY)
    state = {f"model.{key}": value for key, value in inner.items()}
    state |= {f"template_model.module.{key}": value for key, value in inner.items()}
    hyperparameters = {
        "arch": "ir_8",
        "coreset_size": 2,
        "m": 0.7,
        "h": 0.3,
        "s": 32.0,
        "data_root": "/data",
        "t_alpha": float("nan"),
    }
    return {
        "epoch": 3,
        "state_dict": state | aggregator_state(32),
        "hyper_parameters": hyperparameters,
        "optimizer_states": [],
    }
