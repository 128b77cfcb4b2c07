"""Writes files in the format of `torch.save` without PyTorch, and state dicts in published layouts."""

import contextlib
import pickle
import sys
import types
import zipfile

import jax
import ml_dtypes
import numpy as np

from fpsset.models.iresnet import IResNetConfig
from fpsset.weights.torch_backbone import _LEAVES, _adaface_modules, _insightface_modules, _shapes

TINY = IResNetConfig((1, 1, 1, 1), width=8)  # a published layout with less to compute
_STORAGES = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.bool_): "BoolStorage",
}


class View:
    """A tensor as a view of a storage."""

    def __init__(self, storage: np.ndarray, offset: int, shape: tuple, strides: tuple):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


def as_view(array) -> View:
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    return View(array.reshape(-1), 0, array.shape, tuple(s // array.itemsize for s in array.strides))


class _Pickler(pickle.Pickler):
    def __init__(self, file, storages: list):
        super().__init__(file, protocol=2)
        self._storages = storages

    def persistent_id(self, obj):
        if not (isinstance(obj, tuple) and obj and isinstance(obj[0], str) and obj[0] == "a storage"):
            return None
        array = obj[1]
        keys = [i for i, known in enumerate(self._storages) if known is array]
        if not keys:
            self._storages.append(array)
            keys = [len(self._storages) - 1]
        kind = getattr(sys.modules["torch"], _STORAGES[array.dtype])
        return ("storage", kind, str(keys[0]), "cpu", array.size)

    def reducer_override(self, obj):
        if isinstance(obj, np.ndarray):
            obj = as_view(obj)
        if isinstance(obj, View):
            rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
            storage = ("a storage", obj.storage)
            return rebuild, (storage, obj.offset, obj.shape, obj.strides, False, {})
        return NotImplemented


@contextlib.contextmanager
def fake_modules(**names):
    """Fake modules that exist while a pickle is written: {'torch._utils': {'name': object}}."""
    made = {}
    for module, members in names.items():
        made[module] = types.ModuleType(module)
        for name, member in members.items():
            member.__module__, member.__qualname__ = module, name
            setattr(made[module], name, member)
    sys.modules.update(made)  # 'a.b' is importable only beside 'a'
    try:
        yield
    finally:
        for module in made:
            del sys.modules[module]


def torch_modules() -> dict:
    def rebuild(*_):
        """Never called; only its name is written."""

    storages = {name: type(name, (), {}) for name in _STORAGES.values()}
    return {"torch": storages, "torch._utils": {"_rebuild_tensor_v2": rebuild}}


def save(path, content, pickled: bytes | None = None, **modules) -> None:
    """Writes what torch.save(content, path) would; arrays and `View`s become tensors."""
    storages: list[np.ndarray] = []
    with zipfile.ZipFile(path, "w") as file:
        if pickled is None:
            with fake_modules(**torch_modules(), **modules), file.open("archive/data.pkl", "w") as out:
                _Pickler(out, storages).dump(content)
        else:
            file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/byteorder", "little")
        for i, storage in enumerate(storages):
            file.writestr(f"archive/data/{i}", storage.tobytes())
        file.writestr("archive/version", "3\n")


def write(path, content):
    """`save`, which returns the path."""
    save(path, content)
    return path


def random_variables(config: IResNetConfig, seed: int = 0) -> dict:
    """Variables of a backbone with statistics and slopes other than the defaults."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name, z = path[-1].key, rng.standard_normal(leaf.shape).astype(np.float32)
        if name == "kernel":
            return z / np.float32(np.sqrt(np.prod(leaf.shape[:-1])))
        return {"var": 0.5 + np.abs(z), "scale": 1 + 0.2 * z, "slope": 0.25 + 0.1 * z}.get(name, 0.1 * z)

    return jax.tree_util.tree_map_with_path(draw, _shapes(config))


def state_dict(variables: dict, config: IResNetConfig, prefix: str = "") -> dict[str, np.ndarray]:
    """State dict of a backbone in its published layout."""
    modules = _adaface_modules if config.layout == "adaface" else _insightface_modules
    state = {}
    for kind, path, name in modules(config):
        for collection, leaf, suffix in _LEAVES[kind]:
            value = variables[collection]
            for part in f"{path}/{leaf}".split("/"):
                value = value[part]
            value = np.asarray(value)
            if leaf == "kernel":
                if kind == "dense":
                    value = value.reshape(7, 7, -1, value.shape[-1]).transpose(3, 2, 0, 1)
                    value = value.reshape(len(value), -1)
                elif kind == "pointwise":
                    value = value.T[:, :, None, None]
                else:
                    value = value.transpose(3, 2, 0, 1)
            state[f"{prefix}{name}.{suffix}"] = np.ascontiguousarray(value)
        if "norm" in kind:
            state[f"{prefix}{name}.num_batches_tracked"] = np.asarray(7, np.int64)
    return state


def aggregator_state(dim: int, classes: int = 5, seed: int = 0) -> dict[str, np.ndarray]:
    """State dict of an aggregator and its head in the published layout."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return (rng.standard_normal(shape) / np.sqrt(dim)).astype(np.float32)

    layer = "aggregate_model.decoder_layer1."
    state = {"aggregate_model.gamma": np.asarray(0.35, np.float32), "aggregate_model.tau": np.float32([1])}
    for name in ("self_attn1", "self_attn2", "multihead_attn1", "multihead_attn2"):
        state |= {
            f"{layer}{name}.in_proj_weight": draw(3 * dim, dim),
            f"{layer}{name}.in_proj_bias": draw(3 * dim),
            f"{layer}{name}.out_proj.weight": draw(dim, dim),
            f"{layer}{name}.out_proj.bias": draw(dim),
        }
    for name in (f"{layer}norm1", f"{layer}norm2", f"{layer}norm4", "aggregate_model.pos_trans_norm"):
        state |= {f"{name}.weight": 1 + draw(dim), f"{name}.bias": draw(dim)}
    state |= {"head.kernel": draw(dim, classes), "head.t": np.float32([0.01])}
    return state | {"head.batch_mean": np.float32([21]), "head.batch_std": np.float32([9])}
