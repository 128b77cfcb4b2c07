"""Which faces a run trains and is evaluated on, by its configuration."""

from fpsset.data.feature_table import FeatureTable, require_people
from fpsset.data.files import read_features
from fpsset.data.synthetic import make_synthetic
from fpsset.errors import InputError


def training_table(data, seed: int) -> FeatureTable:
    """The faces to train on, validation people included.

    Args:
      data: `config.data`.
      seed: of synthetic faces.

    Raises:
      InputError: no file is given, or it is not usable.
    """
    if data.source == "synthetic":
        return make_synthetic(data.people, seed, data.dim)[0]
    table = read_features(_given(data.train, "train"))
    require_people(table, 4)  # two to train on, two to validate with
    return table


def evaluation_table(data, seed: int) -> FeatureTable:
    """The faces to evaluate on: people that training does not see.

    Args:
      data: `config.data`.
      seed: of synthetic faces; these are drawn apart from the training ones.

    Raises:
      InputError: no file is given, or it is not usable.
    """
    if data.source == "synthetic":
        return make_synthetic(data.eval_people, seed + 1_000_003, data.dim)[0]
    table = read_features(_given(data.eval, "eval"))
    require_people(table, 2)
    return table


def _given(path: str, field: str) -> str:
    if not path:
        raise InputError(f"config.data.{field} is empty; give a feature file: --config.data.{field}=FILE.npz")
    return path
