"""Pickled NumPy arrays, as the official IJB features come, read without running anything."""

import pathlib
import pickle
from types import MappingProxyType

import numpy as np

from fpsset.errors import InputError
from fpsset.runtime.safe_pickle import UNREADABLE, PlainUnpickler

_KINDS = frozenset("fiub")  # of dtypes: numbers alone


def read_numpy_pickle(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a pickled dict, by name; what is no array of numbers is left out.

    Args:
      path: the file.

    Raises:
      InputError: it is missing, damaged, or holds no dict of arrays.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler.read(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UNREADABLE as error:
        raise InputError(f"{path}: holds a pickle that cannot be read ({error}); save an .npz") from error
    items = dict(dict.items(content)) if isinstance(content, dict) else {}
    made = {key: getattr(value, "array", None) for key, value in items.items() if isinstance(value, _Array)}
    arrays = {key: array for key, array in made.items() if array is not None}
    if not arrays:
        raise InputError(f"{path}: holds no dict of NumPy arrays; save an .npz")
    return arrays


class _Dtype:
    """A dtype by its pickled arguments and state; only plain numbers are built."""

    __slots__ = ("order", "text")

    def __init__(self, text="", *_):
        self.text, self.order = text, "|"

    def __setstate__(self, state) -> None:
        self.order = state[1]

    def build(self) -> np.dtype:
        dtype = np.dtype(self.text).newbyteorder(self.order) if type(self.text) is str else None
        if dtype is None or dtype.kind not in _KINDS:
            raise pickle.UnpicklingError(f"an array of {self.text!r}")
        return dtype


class _Array:
    """An array that its state fills."""

    __slots__ = ("array",)

    def __init__(self, *_):
        self.array = None

    def __setstate__(self, state) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


class _FromBuffer:
    """How protocol 5 pickles arrays."""

    __slots__ = ()

    def __call__(self, data, dtype, shape, order) -> _Array:
        made = _Array()
        made.array = _array(data, dtype, shape, order)
        return made


class _Encode:
    """How early protocols pickle bytes: as text in Latin-1, or as a call without arguments."""

    __slots__ = ()

    def __call__(self, text="", encoding="latin1") -> bytes:
        return text.encode("latin1")


def _array(data, dtype, shape, order) -> np.ndarray:
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array that is none")
    return np.frombuffer(data, dtype.build()).reshape(shape, order=order)


class _Unpickler(PlainUnpickler):
    known = MappingProxyType(
        {
            ("numpy", "dtype"): _Dtype,
            ("numpy", "ndarray"): _Array,
            ("_codecs", "encode"): _Encode(),
            ("builtins", "bytes"): _Encode(),
            ("__builtin__", "bytes"): _Encode(),
            **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
            **{(f"numpy.{core}.numeric", "_frombuffer"): _FromBuffer() for core in ("core", "_core")},
        }
    )
