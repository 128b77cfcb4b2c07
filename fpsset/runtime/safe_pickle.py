"""Safe unpickling: nothing in the file is executed.

Only a few harmless names are resolved; every other class or function becomes an inert stand-in.
"""

import pickle
import struct
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import IO

# Exceptions that a damaged or malicious pickle can make the unpickler raise.
UNREADABLE = (
    *(pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, ImportError),
    *(LookupError, MemoryError, RecursionError, TypeError, ValueError, struct.error),
)
_PLAIN_KEYS = (str, bytes, float, bool, type(None))
_LONGEST_KEY = 16  # items of a tuple
_WIDEST_KEY = 128  # bits of an integer


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

    def __init__(self, pairs: Iterable = ()):
        super().__init__()
        for key, value in pairs:
            self[checked_key(key)] = value

    def __setstate__(self, state) -> None:
        """Ignores attributes."""


def checked_key(key):
    """A key of a dict or item of a set, if hashing it takes no time.

    A tuple of twice the same tuple, and so on sixty times, is a few hundred bytes of pickle; its hash would
    take years. So keys are plain values, stand-ins, or short tuples of plain values.

    Raises:
      pickle.UnpicklingError: it is anything else.
    """
    parts = key if type(key) is tuple and len(key) <= _LONGEST_KEY else (key,)
    for part in parts:
        plain = type(part) in _PLAIN_KEYS or isinstance(part, StandIn | type)
        if not plain and not (type(part) is int and part.bit_length() <= _WIDEST_KEY):
            raise pickle.UnpicklingError(f"a key that is a nested or large {type(part).__name__}")
    return key


class _Set:
    """Stands in for `set` and `frozenset`."""

    __slots__ = ()

    def __call__(self, items=()) -> set:
        return set(map(checked_key, items))


# The unpickler in C hashes keys before anyone can look at them, and allocates what a pickle merely announces.
class PlainUnpickler(pickle._Unpickler):
    """Builds plain containers, the objects that `known` names, and stand-ins."""

    # (module, name) in the pickle -> what to use in its place. A pickle can set attributes, so these must be
    # builtins, or classes and instances without a __dict__.
    known: Mapping[tuple[str, str], object] = {}
    _plain: Mapping[tuple[str, str], object] = {
        ("collections", "OrderedDict"): OrderedDict,
        **{(module, "set"): _Set() for module in ("builtins", "__builtin__")},
        **{(module, "frozenset"): _Set() for module in ("builtins", "__builtin__")},
    }

    def __init__(self, file: IO[bytes], size: int):
        """See the class; use `read`."""
        super().__init__(file)
        self._stand_ins: dict[tuple[str, str], type] = {}
        self._size = size

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
        return cls(file, size).load()

    def find_class(self, module: str, name: str):
        """Called for every class and function in the pickle."""
        for names in (self.known, self._plain):
            if (module, name) in names:
                return names[module, name]
        if (module, name) not in self._stand_ins:
            self._stand_ins[module, name] = type(f"{module}.{name}", (StandIn,), {})
        return self._stand_ins[module, name]

    def load_dict(self) -> None:
        """Makes a dict of the items since the mark."""
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def load_setitem(self) -> None:
        """Sets one item of the dict below it."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        """Sets the items since the mark."""
        self._set(self.pop_mark())

    def load_additems(self) -> None:
        """Adds the items since the mark to a set."""
        items = self.pop_mark()
        self.stack[-1].update(map(checked_key, items))

    def load_frozenset(self) -> None:
        """Makes a set of the items since the mark."""
        items = self.pop_mark()
        self.append(_Set()(items))

    def load_bytearray8(self) -> None:
        """Makes an array of bytes, if the file can have as many."""
        (count,) = struct.unpack("<Q", self.read(8))
        if count > self._size:
            raise pickle.UnpicklingError(f"{count} bytes in a file of {self._size}")
        self.append(bytearray(self.read(count)))

    def _set(self, items: list) -> None:
        held = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            held[checked_key(key)] = value

    dispatch = MappingProxyType(
        {
            **pickle._Unpickler.dispatch,
            pickle.DICT[0]: load_dict,
            pickle.SETITEM[0]: load_setitem,
            pickle.SETITEMS[0]: load_setitems,
            pickle.ADDITEMS[0]: load_additems,
            pickle.FROZENSET[0]: load_frozenset,
            pickle.BYTEARRAY8[0]: load_bytearray8,
        }
    )
