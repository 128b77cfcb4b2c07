"""What a store is for: one model's descriptors of one backbone's embeddings, and how people are described."""

import pathlib
from typing import NamedTuple

from fpsset.errors import InputError
from fpsset.inference.aggregator import SetAggregator
from fpsset.people.store import Store

MOST_PROTOTYPES = 32
AUTO = "auto"


class Settings(NamedTuple):
    """Of a store.

    Attributes:
      dim: D, the width of the embeddings.
      backbone: digest of the backbone that computed them; empty if not known.
      model: where the model was, as a path or a name.
      digest: of the model.
      prototypes: how many vectors a person has at most; `AUTO`: see `fpsset.people.prototypes`.
      strangers: odds by which faces are set aside, see `fpsset.people.consensus`; None: none is.
    """

    dim: int
    backbone: str
    model: str
    digest: str
    prototypes: int | str = 1
    strangers: list[float] | None = None


def read_settings(store: Store) -> Settings | None:
    """The settings of a store; None as long as nobody is enrolled."""
    held = store.get("settings")
    return None if held is None else Settings(**held)


def write_settings(store: Store, settings: Settings) -> None:
    """Keeps the settings, and the width of embeddings where `Store.row_type` finds it."""
    store.put("settings", settings._asdict())
    store.put("dim", settings.dim)


def require_model(store: Store, settings: Settings, model: SetAggregator) -> None:
    """Raises InputError if the descriptors in a store are not the model's."""
    if model.digest != settings.digest:
        raise InputError(
            f"{store.path}: its descriptors are those of the model {settings.digest} ({settings.model}), not "
            f"of {model.digest} ({model.name}); give that one by --model, or migrate the store"
        )


def prototypes_of(text: str) -> int | str:
    """How many prototypes a user wants: 'auto', or a number in 1 ... 32."""
    if text == AUTO:
        return AUTO
    if not text.isdigit() or not 1 <= int(text) <= MOST_PROTOTYPES:
        raise InputError(f"--prototypes is {text}; it must be {AUTO} or a number in 1 ... {MOST_PROTOTYPES}")
    return int(text)


def remembered(model: str) -> str:
    """How a store remembers a model: the absolute path of one that is on disk, or its name."""
    path = pathlib.Path(model).expanduser()
    return str(path.absolute()) if path.exists() else model
