"""Pickles read without running anything they hold.

An unpickler that knows a few harmless names; every other class or function becomes an inert stand-in.
"""

import pickle
import pickletools
from collections.abc import Mapping
from typing import IO

# What a damaged or hostile pickle can make the unpickler raise.
UNREADABLE = (
    *(pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, ImportError),
    *(LookupError, MemoryError, RecursionError, TypeError, ValueError),
)


class StandIn(dict):
    """In place of an object of any other class: inert; it keeps items and attributes, and does nothing."""

    __hash__ = object.__hash__

    def __new__(cls, *args, **kwargs):
        """Takes what the real class took."""
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        super().__init__()

    def __setstate__(self, state) -> None:
        """Keeps attributes as items."""
        if type(state) is dict:
            self.update(state)

    def __call__(self, *args, **kwargs) -> "StandIn":
        """Nothing is called."""
        return StandIn()

    def append(self, item) -> None:
        """Drops an item of a list-like class."""

    def extend(self, items) -> None:
        """Drops items of a list-like class."""


class OrderedDict(dict):
    """A dict; the attributes that some carry (a module's versions) are dropped."""

    __slots__ = ()

    def __setstate__(self, state) -> None:
        """Drops attributes."""


class PlainUnpickler(pickle.Unpickler):
    """Builds plain containers, what `known` names, and stand-ins."""

    # (module, name) in the pickle -> what to call instead. None of it may be changeable by a pickle
    # that sets attributes: builtins, and classes and instances without a __dict__.
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
        """What a pickle holds.

        Args:
          file: at its start; seekable.

        Raises:
          UNREADABLE: it is damaged, or does what no honest pickle does.
        """
        size = file.seek(0, 2)
        file.seek(0)
        for opcode, argument, _ in pickletools.genops(file):
            # The unpickler makes room for as many objects as the largest memo number says.
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
