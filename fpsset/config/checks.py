"""What checks of configurations share."""

from collections.abc import Iterator

from ml_collections import ConfigDict

from fpsset.errors import InputError

MODE = "that of its config file: do not override config.mode"


class Need:
    """Raises InputError for a field whose value is invalid."""

    def __init__(self, config: ConfigDict):
        """Of one configuration."""
        self._config = config

    def __call__(self, ok: bool, field: str, values: str) -> None:
        """Names the dotted field, its value and the `values` it may take, unless `ok`."""
        if not ok:
            value = self._config
            for part in field.split("."):
                value = value[part]
            raise InputError(f"config.{field} is {value!r}; it must be {values}")


def numbers(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yields (field, value) for every number in a configuration, those in sequences included."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from numbers(value, f"{prefix}{key}.")
        else:
            for item in value if isinstance(value, tuple | list) else (value,):
                if isinstance(item, int | float):
                    yield prefix + key, item
