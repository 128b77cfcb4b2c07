"""State dicts in files of `torch.save` or safetensors, as mappings that read one array at a time."""

import contextlib
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from fpsset.errors import InputError
from fpsset.runtime.safe_pickle import StandIn
from fpsset.weights.torch_file import Tensor, TorchFile

# Keys under which training code stores the state dict, Lightning's first.
_STATE_KEYS = ("state_dict", "state_dict_backbone", "model_state_dict", "model")
# Names that data-parallel and compiled modules add to keys, in front or between others.
_WRAPPERS = ("module", "_orig_mod")


class StateFile(Mapping):
    """Arrays by key, read on access; an array that is not finite raises InputError that names the key.

    Attributes:
      hyperparameters: found beside the state dict.
      others: names of everything else in the file.
      used: keys read so far.
    """

    def __init__(
        self, path: pathlib.Path, read: Callable[[str], np.ndarray], keys, hyperparameters: Mapping, others=()
    ):
        """`read` returns the array of any of `keys`, in the file `path`."""
        self._path, self._read = path, read
        self._names = _unwrapped(list(keys))
        self.hyperparameters, self.others = dict(hyperparameters), tuple(others)
        self.used: set[str] = set()

    def __getitem__(self, key: str) -> np.ndarray:
        name = self._names[key]
        self.used.add(key)
        value = self._read(name)
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.asarray(value, np.float32)).all()
        if not finite:
            raise InputError(f"{self._path}: '{name}' holds a value that is not finite; download it again")
        return value

    def __contains__(self, key) -> bool:  # without reading the array
        return key in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Under(Mapping):
    """View of the arrays whose keys start with a prefix, by the rest of the key."""

    def __init__(self, state: Mapping[str, np.ndarray], prefix: str):
        """See the class."""
        self._state, self._prefix = state, prefix

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self:
            raise KeyError(key)
        return self._state[self._prefix + key]

    def __contains__(self, key) -> bool:
        return self._prefix + key in self._state

    def __iter__(self) -> Iterator[str]:
        return (key.removeprefix(self._prefix) for key in self._state if key.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@contextlib.contextmanager
def open_state(path: pathlib.Path) -> Iterator[StateFile]:
    """Opens a `.ckpt`, `.pth` or `.pt` file of `torch.save`, or a `.safetensors` file.

    Raises:
      InputError: the file is missing, damaged, of another format, or holds no state dict.
    """
    if path.suffix == ".safetensors":
        with _open_safetensors(path) as file:

            def read(key: str) -> np.ndarray:
                try:
                    return file.get_tensor(key)
                except (AttributeError, KeyError, TypeError) as error:  # a dtype that NumPy lacks
                    raise InputError(
                        f"{path}: '{key}' has a dtype that NumPy lacks; save it as float32"
                    ) from error

            yield StateFile(path, read, file.keys(), file.metadata() or {})
        return
    with TorchFile(path) as file:
        state, others = _find_state(file.content, path)
        hyperparameters = file.content.get("hyper_parameters", {})
        tensors = {k: v for k, v in state.items() if type(k) is str and isinstance(v, Tensor)}
        yield StateFile(
            path,
            lambda key: file.array(tensors[key], key),
            tensors,
            hyperparameters if isinstance(hyperparameters, dict) else {},
            [
                *others,
                *(f"{key} (not a tensor)" for key, value in state.items() if not isinstance(value, Tensor)),
            ],
        )


def _open_safetensors(path: pathlib.Path):
    try:
        import safetensors
    except ImportError as error:
        raise InputError(f"{path}: needs safetensors; pip install 'fpsset[safetensors]'") from error
    try:
        return safetensors.safe_open(path, framework="numpy")
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path}: is truncated or damaged ({error}); download it again") from error


def _find_state(content, path: pathlib.Path) -> tuple[dict, list[str]]:
    """The state dict within the content of a file, and the names of everything else there."""
    if not isinstance(content, dict) or type(content).__mro__[1] is StandIn:
        raise InputError(
            f"{path}: holds a whole pickled {type(content).__name__}; save its state_dict() instead"
        )
    for key in _STATE_KEYS:
        if _holds_tensors(content.get(key)):
            return content[key], _others(content, key)
    if _holds_tensors(content):
        return content, []
    nested = [key for key, value in content.items() if _holds_tensors(value)]
    if len(nested) == 1:  # under a name of the user's own, such as 'net'
        return content[nested[0]], _others(content, nested[0])
    if nested:
        raise InputError(
            f"{path}: holds state dicts under {', '.join(map(str, nested))}; save the one you mean by itself"
        )
    raise InputError(
        f"{path}: holds no state dict, only {', '.join(map(str, content)) or 'nothing'}; save state_dict()"
    )


def _holds_tensors(value) -> bool:
    return isinstance(value, dict) and any(isinstance(item, Tensor) for item in value.values())


def _others(content: dict, chosen) -> list[str]:
    return [str(key) for key in content if key not in (chosen, "hyper_parameters")]


def _unwrapped(keys: list[str]) -> dict[str, str]:
    """Maps keys without wrappers' names to the keys in the file; keys that would be the same keep theirs."""
    short = {key: ".".join(part for part in key.split(".") if part not in _WRAPPERS) for key in keys}
    counts = Counter(short.values())
    return {short[key] if counts[short[key]] == 1 and short[key] else key: key for key in keys}
