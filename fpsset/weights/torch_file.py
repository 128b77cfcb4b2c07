"""Reads files of `torch.save` without PyTorch and without executing anything in them.

Such a file is a zip with one pickle and the raw bytes of each storage. The unpickler knows only tensors and
plain containers; every other class becomes an inert stand-in.
"""

import io
import math
import pathlib
import pickle
import zipfile
from types import MappingProxyType
from typing import NamedTuple

import ml_dtypes
import numpy as np

from fpsset.errors import InputError, first_line
from fpsset.runtime.safe_pickle import UNREADABLE, PlainUnpickler

_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
    "UntypedStorage": np.uint8,  # for dtypes that are not listed above; their tensors become stand-ins
}
_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # start of files before PyTorch 1.6
_MOST_REPEATED = 2**24  # elements of a tensor that repeats a smaller storage
# Exceptions that a damaged file can make the zip reader raise.
_DAMAGED = (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)


class Storage(NamedTuple):
    """Raw bytes in the file: their name there, their dtype and the number of elements."""

    key: str
    dtype: np.dtype
    size: int


class Tensor(NamedTuple):
    """A tensor as the pickle describes it; its values stay in the file until `TorchFile.array` reads them."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchFile:
    """An open file. Use as a context manager.

    Attributes:
      content: the saved object: plain containers, numbers and strings, with `Tensor` in place of tensors and
        `StandIn` in place of objects of other classes.
    """

    def __init__(self, path: pathlib.Path):
        """Opens a file that `torch.save` wrote and reads its structure.

        Raises:
          InputError: the file is missing, damaged, or of another format.
        """
        self._path = path
        self._bytes: dict[str, bytes] = {}
        _require_zip(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGED as error:
            raise self._damaged(error) from error
        try:
            self.content = self._read_structure()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> "TorchFile":
        return self

    def __exit__(self, *_) -> None:
        self._zip.close()

    def array(self, tensor: Tensor, name: str) -> np.ndarray:
        """The values of a tensor, read-only; tensors that share a storage share memory.

        Args:
          tensor: from `content`.
          name: for error messages.

        Raises:
          InputError: its bytes are missing or damaged, or it extends beyond its storage.
        """
        flat = self._flat(tensor.storage)
        if 0 in tensor.shape:
            return np.zeros(tensor.shape, flat.dtype)
        # The stride of an axis of length one is meaningless and may be any number.
        strides = [stride if n > 1 else 0 for n, stride in zip(tensor.shape, tensor.strides, strict=True)]
        last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, strides, strict=True))
        if last >= len(flat):
            raise InputError(f"{self._path}: '{name}' extends beyond its storage; download the file again")
        in_bytes = [stride * flat.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, in_bytes, writeable=False)

    def _read_structure(self):
        names = set(self._zip.namelist())
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise InputError(
                f"{self._path}: is a zip, but not one that torch.save writes; give a .ckpt, .pth or .pt file"
            )
        (self._root,) = roots
        if f"{self._root}constants.pkl" in names:
            raise InputError(
                f"{self._path}: is a TorchScript program; give a state dict saved with torch.save"
            )
        if f"{self._root}byteorder" in names and self._read("byteorder") != b"little":
            raise InputError(f"{self._path}: holds big-endian numbers; save it on a little-endian machine")
        pickled = self._read("data.pkl")
        try:
            return _Unpickler.read(io.BytesIO(pickled))
        except UNREADABLE as error:
            raise InputError(
                f"{self._path}: holds a pickle that cannot be read ({first_line(error)}); "
                "give a state dict saved with torch.save"
            ) from error

    def _flat(self, storage: Storage) -> np.ndarray:
        if storage.key not in self._bytes:
            self._bytes[storage.key] = self._read(f"data/{storage.key}")
        raw = self._bytes[storage.key]
        if len(raw) != storage.size * storage.dtype.itemsize:
            raise self._damaged(f"data/{storage.key} holds {len(raw)} bytes")
        return np.frombuffer(raw, storage.dtype)

    def _read(self, name: str) -> bytes:
        try:
            entry = self._zip.getinfo(self._root + name)
        except KeyError as error:
            raise self._damaged(f"no {name}") from error
        if (
            entry.compress_type != zipfile.ZIP_STORED
        ):  # also keeps a small file from expanding into a huge one
            raise InputError(
                f"{self._path}: {name} is compressed, which torch.save never does; download the file again"
            )
        try:
            return self._zip.read(entry)
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def _damaged(self, why: Exception | str) -> InputError:
        return InputError(f"{self._path}: is truncated or damaged ({first_line(why)}); download it again")


class _Dtype(NamedTuple):
    name: str


class _RebuildTensor:
    __slots__ = ()

    def __call__(self, storage, offset, shape, strides, *_) -> Tensor:
        tensor = Tensor(storage, offset, tuple(shape), tuple(strides))
        sizes = (offset, *tensor.shape, *tensor.strides)
        if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in sizes):
            raise pickle.UnpicklingError("not a tensor")
        if len(tensor.shape) != len(tensor.strides) or len(tensor.shape) > 32:
            raise pickle.UnpicklingError("a tensor whose strides do not match its axes")
        if math.prod(tensor.shape) > max(storage.size, _MOST_REPEATED):
            raise pickle.UnpicklingError("a tensor far larger than its storage")
        return tensor


class _RebuildParameter:
    __slots__ = ()

    def __call__(self, tensor, *_) -> Tensor:
        return tensor


class _Unpickler(PlainUnpickler):
    """Builds only plain containers, `Tensor`s and stand-ins, whatever the pickle names."""

    known = MappingProxyType(
        {
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor"): _RebuildTensor(),
            ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
            ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
            ("torch._utils", "_rebuild_parameter_with_state"): _RebuildParameter(),
            **{(module, name): _Dtype(name) for module in ("torch", "torch.storage") for name in _DTYPES},
        }
    )

    def persistent_load(self, pid) -> Storage:
        """Called for every storage; `pid` is ('storage', dtype, key, location, size)."""
        kind, dtype, key, _, size = pid
        if (
            kind != "storage"
            or not isinstance(dtype, _Dtype)
            or type(key) is not str
            or type(size) is not int
        ):
            raise pickle.UnpicklingError("a storage of unknown kind")
        return Storage(key, np.dtype(_DTYPES[dtype.name]), size)


def _require_zip(path: pathlib.Path) -> None:
    """Raises InputError unless the file starts like a zip."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_LEGACY))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if start == _LEGACY:
        raise InputError(
            f"{path}: is in the format from before PyTorch 1.6; load and save it once with a later PyTorch"
        )
    if not start.startswith(_ZIP):
        kind = "is empty" if not start else "is neither a file of torch.save nor safetensors"
        raise InputError(f"{path}: {kind}; give a .ckpt, .pth, .pt or .safetensors file")
