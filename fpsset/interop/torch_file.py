"""Files of `torch.save`, read without PyTorch and without running anything they hold.

Such a file is a zip of one pickle and the raw bytes of each storage. The pickle is read by an
unpickler that knows tensors and plain containers; every other class is replaced by an inert stand-in.
"""

import io
import math
import pathlib
import pickle
import pickletools
import zipfile
from typing import NamedTuple

import ml_dtypes
import numpy as np

from fpsset.errors import InputError

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
    "UntypedStorage": np.uint8,  # of dtypes that have no name above; their tensors become stand-ins
}
_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # how files before PyTorch 1.6 begin
_MOST_REPEATED = 2**24  # entries of a tensor that repeats a smaller storage
# What a damaged or hostile file can make the zip reader and the unpickler raise.
_DAMAGED = (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)
_UNREADABLE = (
    *(pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, ImportError),
    *(LookupError, MemoryError, RecursionError, TypeError, ValueError),
)


class Storage(NamedTuple):
    """Raw bytes in the file: their name there, what they are and how many."""

    key: str
    dtype: np.dtype
    size: int


class Tensor(NamedTuple):
    """A tensor as the pickle describes it; its values stay in the file until asked for."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


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


class TorchFile:
    """An open file. Use as a context manager.

    Attributes:
      content: what was saved: plain containers, numbers and strings, with `Tensor` for tensors and
        `StandIn` for objects of other classes.
    """

    def __init__(self, path: pathlib.Path):
        """Opens a file that `torch.save` wrote, and reads its structure.

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
        """The values of a tensor, read-only; tensors that share a storage share its memory.

        Args:
          tensor: from `content`.
          name: for messages.

        Raises:
          InputError: its bytes are missing or damaged, or it reaches out of its storage.
        """
        flat = self._flat(tensor.storage)
        if 0 in tensor.shape:
            return np.zeros(tensor.shape, flat.dtype)
        # The stride of an axis of length one says nothing, and may be anything.
        strides = [stride if n > 1 else 0 for n, stride in zip(tensor.shape, tensor.strides, strict=True)]
        last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, strides, strict=True))
        if last >= len(flat):
            raise InputError(f"{self._path}: '{name}' reaches out of its storage; fetch the file again")
        in_bytes = [stride * flat.itemsize for stride in strides]
        return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, in_bytes, writeable=False)

    def _read_structure(self):
        names = set(self._zip.namelist())
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise InputError(f"{self._path}: is a zip, but not one that torch.save writes")
        (self._root,) = roots
        if f"{self._root}constants.pkl" in names:
            raise InputError(
                f"{self._path}: is a TorchScript program; give a state dict saved with torch.save"
            )
        if f"{self._root}byteorder" in names and self._read("byteorder") != b"little":
            raise InputError(f"{self._path}: holds big-endian numbers; save it on another machine")
        pickled = self._read("data.pkl")
        try:
            _check_memo(pickled)
            return _Unpickler(io.BytesIO(pickled)).load()
        except _UNREADABLE as error:
            raise InputError(
                f"{self._path}: holds a pickle that cannot be read ({_first_line(error)}); "
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
        if entry.compress_type != zipfile.ZIP_STORED:  # nor is a small file to become a huge one
            raise InputError(f"{self._path}: {name} is compressed, which torch.save never does")
        try:
            return self._zip.read(entry)
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def _damaged(self, why: Exception | str) -> InputError:
        return InputError(f"{self._path}: is cut short or damaged ({_first_line(why)}); fetch it again")


class _Unpickler(pickle.Unpickler):
    """Builds plain containers, `Tensor`s and stand-ins, whatever the pickle names."""

    def __init__(self, file):
        super().__init__(file)
        self._stand_ins: dict[tuple[str, str], type] = {}

    def find_class(self, module: str, name: str):
        """Called for every class and function in the pickle.

        What it returns cannot be changed by the pickle, but for stand-ins, which are this file's alone.
        """
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _RebuildTensor()
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return _RebuildParameter()
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _Dtype(name)
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        if (module, name) not in self._stand_ins:
            self._stand_ins[module, name] = type(f"{module}.{name}", (StandIn,), {})
        return self._stand_ins[module, name]

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


class _OrderedDict(dict):
    """A dict; the attributes that some carry (a module's versions) are dropped."""

    __slots__ = ()

    def __setstate__(self, state) -> None:
        """Drops attributes."""


_PLAIN = {
    ("collections", "OrderedDict"): _OrderedDict,
    ("torch", "Size"): tuple,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("builtins", "frozenset"): frozenset,
}


class _Dtype(NamedTuple):
    name: str


class _RebuildTensor:
    __slots__ = ()

    def __call__(self, storage, offset, shape, strides, *_) -> Tensor:
        tensor = Tensor(storage, offset, tuple(shape), tuple(strides))
        sizes = (offset, *tensor.shape, *tensor.strides)
        if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in sizes):
            raise pickle.UnpicklingError("a tensor that is none")
        if len(tensor.shape) != len(tensor.strides) or len(tensor.shape) > 32:
            raise pickle.UnpicklingError("a tensor with other strides than axes")
        if math.prod(tensor.shape) > max(storage.size, _MOST_REPEATED):
            raise pickle.UnpicklingError("a tensor far larger than its storage")
        return tensor


class _RebuildParameter:
    __slots__ = ()

    def __call__(self, tensor, *_) -> Tensor:
        return tensor


def _check_memo(pickled: bytes) -> None:
    """Refuses memo numbers beyond any real one: the unpickler makes room for as many objects."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(pickled):
            raise pickle.UnpicklingError(f"memo number {argument}")


def _require_zip(path: pathlib.Path) -> None:
    """Raises InputError unless the file begins as a zip does."""
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


def _first_line(error: Exception | str) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
