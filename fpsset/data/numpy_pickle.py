"""Reads pickled NumPy arrays, the format of the official IJB features, without executing any code."""

import pathlib
import pickle
import re
from types import MappingProxyType

import numpy as np

from fpsset.errors import InputError, first_line
from fpsset.runtime.safe_pickle import UNREADABLE, PlainUnpickler

_NUMERIC = re.compile(r"[<>=|]?[fiub][0-9]{1,2}")


def read_numpy_pickle(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the numeric arrays of a pickled dict, by name; other entries are skipped.

    Args:
      path: the pickle file.

    Raises:
      InputError: the file is missing, damaged or does not contain a dict of numeric arrays.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler.read(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UNREADABLE as error:
        raise InputError(
            f"{path}: is a pickle that cannot be read ({first_line(error)}); save an .npz"
        ) from error
    items = dict(dict.items(content)) if isinstance(content, dict) else {}
    built = {key: getattr(value, "array", None) for key, value in items.items() if isinstance(value, _Array)}
    arrays = {key: array for key, array in built.items() if array is not None}
    if not arrays:
        raise InputError(f"{path}: is not a dict of NumPy arrays; save an .npz")
    return arrays


class _Dtype:
    """Stands in for a pickled dtype; `build` accepts numeric dtypes only."""

    __slots__ = ("order", "text")

    def __init__(self, text="", *_):
        self.text, self.order = text, "|"

    def __setstate__(self, state) -> None:
        self.order = state[1]

    def build(self) -> np.dtype:
        if type(self.text) is not str or not _NUMERIC.fullmatch(self.text):
            raise pickle.UnpicklingError(f"an array of {str(self.text)[:20]!r} is not numeric")
        return np.dtype(self.text).newbyteorder(self.order)


class _Array:
    """Stands in for a pickled array, whose contents arrive as its state."""

    __slots__ = ("array",)

    def __init__(self, *_):
        self.array = None

    def __setstate__(self, state) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


class _FromBuffer:
    """Stands in for the function that rebuilds arrays in protocol 5."""

    __slots__ = ()

    def __call__(self, data, dtype, shape, order) -> _Array:
        result = _Array()
        result.array = _array(data, dtype, shape, order)
        return result


class _Encode:
    """Stands in for what rebuilds bytes in early protocols: from Latin-1 text, or from no argument at all."""

    __slots__ = ()

    def __call__(self, text="", encoding="latin1") -> bytes:
        return text.encode("latin1")


def _array(data, dtype, shape, order) -> np.ndarray:
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("malformed array")
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
