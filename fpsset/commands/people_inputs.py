"""What the commands of `fpsset people` read: a store with its model, and faces with their names."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from fpsset.commands.inputs import FITTED, load_model, read_all_faces
from fpsset.data.feature_table import FeatureTable, known_people
from fpsset.errors import InputError
from fpsset.inference.aggregator import SetAggregator
from fpsset.people.people import People, names_of
from fpsset.people.settings import read_settings
from fpsset.people.store import Store, open_store


class Named(NamedTuple):
    """M faces, the names of their people, and the file or folder they come from."""

    table: FeatureTable
    names: list[str]
    source: str


@contextlib.contextmanager
def open_people(path: pathlib.Path, model: str | None) -> Iterator[People]:
    """Opens a store and the model that it remembers, or the one that is given.

    Raises:
      InputError: there is no store or model, or the store is another model's.
    """
    with open_store(path) as store:
        yield People(store, model_of(store, model))


def model_of(store: Store, model: str | None) -> SetAggregator:
    """The model that is given, or the one that a store remembers."""
    settings = read_settings(store)
    if model is None and settings is None:
        raise InputError(f"{store.path}: has no model yet; give one by --model: a path, or plain")
    if model in FITTED:
        raise InputError(f"{model}: is fitted to faces first; fpsset fit FEATURES OUT, then --model OUT")
    if model is None and settings.model != "plain" and not pathlib.Path(settings.model).exists():
        raise InputError(
            f"{settings.model}: the model of {store.path} is not there any more; give it by --model"
        )
    return load_model(model or settings.model)


def read_named(source: pathlib.Path, name: str | None, backbone: dict) -> Named:
    """Faces and their names.

    Args:
      source: a feature file, or a folder of images of one person or with a folder for each person.
      name: of the one person whom all faces show; None: as the source says.
      backbone: see `fpsset.commands.inputs.read_faces`.

    Raises:
      InputError: there is no such source, no backbone for images, or nobody known.
    """
    where = str(source.absolute())
    table = read_all_faces(source, backbone)
    if name is not None:
        return Named(table, [name] * len(table), where)
    table = known_people(table)
    return Named(table, names_of(table), where)
