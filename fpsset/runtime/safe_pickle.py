"""Safe unpickling: nothing in the file is executed.

Only a few harmless names are resolved; every other class or function becomes an inert stand-in.
"""

import pickle
import pickletools
from collections.abc import Mapping
from typing import IO

# Exceptions that a damaged or malicious pickle can make the unpickler raise.
UNREADABLE = (
    *(pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, ImportError),
    *(LookupError, MemoryError, RecursionError, TypeError, ValueError),
)


class StandIn(dict):
    """Inert replacement for an object of an unknown class: keeps its items and attributes, does nothing."""

    __hash__ = object.__hash__

    def __new__(cls, *args, **kwargs):
        """Accepts the arguments of the class that it replaces."""
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        super().__init__()

    def __setstate__(self, state) -> None:
        """Stores attributes as items."""
        if type(state) is dict:
            self.update(state)

    def __call__(self, *args, **kwargs) -> "StandIn":
        """Returns another stand-in; nothing is called."""
        return StandIn()

    def append(self, item) -> None:
        """Ignores an item of a list-like class."""

    def extend(self, items) -> None:
        """Ignores items of a list-like class."""


class OrderedDict(dict):
    """A dict that ignores pickled attributes, such as the versions in the state of a PyTorch module."""

    __slots__ = ()

    def __setstate__(self, state) -> None:
        """Ignores attributes."""


class PlainUnpickler(pickle.Unpickler):
    """Builds plain containers, the objects that `known` names, and stand-ins."""

    # (module, name) in the pickle -> what to use in its place. A pickle can set attributes, so these must be
    # builtins, or classes and instances without a __dict__.
    known: Mapping[tuple[str, str], object] = {}
    _plain: Mapping[tuple[str, str], object] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("builtins", "set"): set,
        ("__builtin__", "set"): set,
        ("builtins", "frozenset"): frozenset,
    }

    def __init__(self, file: IO[bytes]):
        """See the class; use `read`."""
        super().__init__(file)
        self._stand_ins: dict[tuple[str, str], type] = {}

    @classmethod
    def read(cls, file: IO[bytes]):
        """The object in a pickle.

        Args:
          file: seekable; read from its start.

        Raises:
          UNREADABLE: the pickle is damaged, or does something that no honest pickle does.
        """
        size = file.seek(0, 2)
        file.seek(0)
        for opcode, argument, _ in pickletools.genops(file):
            # The unpickler allocates a memo as large as the largest memo number.
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > size:
                raise pickle.UnpicklingError(f"memo number {argument}")
        file.seek(0)
        return cls(file).load()

    def find_class(self, module: str, name: str):
        """Called for every class and function in the pickle."""
        for names in (self.known, self._plain):
            if (module, name) in names:
                return names[module, name]
        if (module, name) not in self._stand_ins:
            self._stand_ins[module, name] = type(f"{module}.{name}", (StandIn,), {})
        return self._stand_ins[module, name]
