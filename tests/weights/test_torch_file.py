"""Files of torch.save: all kinds of tensors, malicious pickles and damage."""

import io
import os
import pickle
import struct
import subprocess
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpsset.errors import InputError
from fpsset.runtime.safe_pickle import StandIn
from fpsset.weights.state_file import open_state
from fpsset.weights.torch_file import Tensor, TorchFile
from tests.torch_files import View, save


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int64, np.bool_], ids=str
)
def test_dtypes(tmp_path, dtype):
    wanted = np.arange(-3, 3).reshape(2, 3).astype(dtype)
    save(tmp_path / "a.pt", {"x": wanted, "scalar": np.asarray(wanted[1, 1])})
    with TorchFile(tmp_path / "a.pt") as file:
        for name, value in (("x", wanted), ("scalar", wanted[1, 1])):
            got = file.array(file.content[name], name)
            assert got.dtype == dtype and got.shape == value.shape
            np.testing.assert_array_equal(got, value)


@given(
    shape=st.lists(st.integers(0, 4), max_size=3),
    steps=st.lists(st.integers(0, 5), min_size=3, max_size=3),
    offset=st.integers(0, 9),
)
def test_views(tmp_path_factory, shape, steps, offset):
    """Any strides and offset, compared with NumPy."""
    storage = np.arange(80, dtype=np.float32)
    path = tmp_path_factory.mktemp("views") / "a.pt"
    strides = tuple(steps[: len(shape)])
    save(path, [View(storage, offset, tuple(shape), strides)])
    wanted = np.zeros(shape, np.float32)
    for index in np.ndindex(*shape):
        wanted[index] = storage[offset + sum(i * s for i, s in zip(index, strides, strict=True))]
    with TorchFile(path) as file:
        np.testing.assert_array_equal(file.array(file.content[0], "x"), wanted)


def test_shared_storages_share_memory(tmp_path):
    storage = np.arange(12, dtype=np.float32)
    views = [View(storage, 0, (3, 4), (4, 1)), View(storage, 1, (4, 2), (1, 4)), View(storage, 5, (), ())]
    save(tmp_path / "a.pt", views)
    with TorchFile(tmp_path / "a.pt") as file:
        whole, turned, one = (file.array(tensor, "x") for tensor in file.content)
    assert np.shares_memory(whole, turned) and one == 5
    np.testing.assert_array_equal(turned, np.stack([storage[1:5], storage[5:9]], 1))
    with pytest.raises(ValueError, match="read-only"):
        whole[0, 0] = 1


class AttributeDict(dict):
    pass


class Callback:
    def __init__(self):
        self.patience = 3


def test_other_classes_become_stand_ins(tmp_path):
    content = {
        "hyper_parameters": AttributeDict(m=0.5, arch="ir_50"),
        "callbacks": {Callback: Callback()},
        "stride": {1, 2},
    }
    modules = {"lightning": {"AttributeDict": AttributeDict}, "callbacks": {"Callback": Callback}}
    save(tmp_path / "a.ckpt", content, **modules)
    with TorchFile(tmp_path / "a.ckpt") as file:
        hyper, callbacks = file.content["hyper_parameters"], file.content["callbacks"]
    assert isinstance(hyper, StandIn) and dict(hyper) == {"m": 0.5, "arch": "ir_50"}
    ((kind, callback),) = callbacks.items()
    assert issubclass(kind, StandIn) and kind is not Callback and dict(callback) == {"patience": 3}
    assert file.content["stride"] == {1, 2}


class Reduce:
    """An object that is pickled as a call."""

    def __init__(self, function, *arguments, state=None):
        self._reduced = (function, arguments, state)

    def __reduce__(self):
        return self._reduced


def hostile(marker) -> dict[str, bytes]:
    """Pickles that would run code, by technique."""
    command = f"touch {marker}"
    inner = pickle.dumps(Reduce(os.system, command))
    nested = (
        b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(Vos\ntRVsystem\ntR(V" + command.encode() + b"\ntR."
    )
    return {
        "reduce os.system": pickle.dumps({"state_dict": Reduce(os.system, command)}),
        "protocol 0": pickle.dumps(Reduce(os.system, command), protocol=0),
        "eval": pickle.dumps(Reduce(eval, f"open({str(marker)!r}, 'w')")),
        "Popen": pickle.dumps(Reduce(subprocess.Popen, ["touch", str(marker)])),
        "pickle in pickle": pickle.dumps(Reduce(pickle.loads, inner)),
        "getattr of import": nested,
        "inst": b"(V" + command.encode() + b"\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nV" + command.encode() + b"\no.",
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c"
        + struct.pack("B", len(command)) + command.encode() + b"\x85R.",
        "dotted name": b"\x80\x04\x8c\x02os\x8c\x0bpath.exists\x93\x8c\x01x\x85R.",
        "numpy load": pickle.dumps(Reduce(np.load, str(marker))),
        "call of a stand-in": b"(cos\nsystem\n(V" + command.encode() + b"\ntR(VX\ntR.",
        "new object of a function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)\x81.",
        "not a tensor": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR.",
        "change of a function": b"ctorch._utils\n_rebuild_tensor_v2\nN}V__doc__\nVx\ns\x86b.",
        "change of a type": b"ccollections\nOrderedDict\nN}Vget\nVx\ns\x86b.",
        "unknown storage": b"\x80\x02U\x01xQ.",
        "unhashable key": b"\x80\x02}]K\x01s.",
        "memo": b"\x80\x02}r\xff\xff\xff\x0f.",
        "attribute of a dict": b"ccollections\nOrderedDict\n)RN}Vget\nVx\ns\x86b.",
        "nested tuple as a key": b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.",
        "nested tuple in a set": b"\x80\x02cbuiltins\nset\n])" + b"2\x86" * 60 + b"a\x85R.",
        "nested tuple in pairs": b"ccollections\nOrderedDict\n]])" + b"2\x86" * 60 + b"aK\x01aa\x85R.",
        "bytes without end": b"\x80\x05\x96" + b"\xff" * 6 + b"\0\0.",
        "extension": b"\x80\x02\x82\x01.",
    }  # fmt: skip


def test_no_code_of_a_hostile_pickle_runs(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "hostile.ckpt"
    for name, pickled in hostile(marker).items():
        save(path, None, pickled)
        with pytest.raises(InputError) as error, open_state(path):
            pytest.fail(f"{name}: was taken for a state dict")
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value), name
        assert not marker.exists(), name


def test_a_tensor_cannot_reach_out_of_its_storage(tmp_path):
    storage = np.arange(4, dtype=np.float32)
    for view in (View(storage, 1, (4,), (1,)), View(storage, 0, (2, 2), (3, 1)), View(storage, 4, (), ())):
        save(tmp_path / "a.pt", {"x": view})
        with TorchFile(tmp_path / "a.pt") as file, pytest.raises(InputError, match="'x' extends beyond"):
            file.array(file.content["x"], "x")
    for view in (
        View(storage, -1, (1,), (1,)),
        View(storage, 0, (2**20, 2**20), (0, 0)),
        View(storage, 0, (2,), ()),
    ):
        save(tmp_path / "a.pt", {"x": view})
        with pytest.raises(InputError, match="a tensor"):
            TorchFile(tmp_path / "a.pt")


def test_an_axis_of_one_may_have_any_stride(tmp_path):
    save(tmp_path / "a.pt", [View(np.float32([5]), 0, (1, 1), (2**62, 7))])
    with TorchFile(tmp_path / "a.pt") as file:
        assert file.array(file.content[0], "x") == [[5]]


def test_truncated_files(tmp_path):
    """A file truncated anywhere gives a one-line error."""
    save(tmp_path / "whole.pt", {"x": np.ones((16, 16), np.float32)})
    whole = (tmp_path / "whole.pt").read_bytes()
    for length in [0, 3, 4, 40, *range(100, len(whole), 97), len(whole) - 1]:
        path = tmp_path / "cut.pt"
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.pt: ") as error:
            TorchFile(path)
        assert "\n" not in str(error.value)


def test_damaged_bytes(tmp_path):
    save(tmp_path / "a.pt", {"x": np.full(64, 3, np.float32)})
    whole = bytearray((tmp_path / "a.pt").read_bytes())
    place = whole.index(np.full(64, 3, np.float32).tobytes())
    whole[place] ^= 1
    (tmp_path / "a.pt").write_bytes(whole)
    with TorchFile(tmp_path / "a.pt") as file, pytest.raises(InputError, match="damaged"):
        file.array(file.content["x"], "x")


@pytest.mark.parametrize(
    "entries, problem",
    [
        ({"a/readme": b""}, "not one that torch.save writes"),
        ({"a/data.pkl": pickle.dumps({}), "b/data.pkl": b""}, "not one that torch.save writes"),
        ({"a/data.pkl": pickle.dumps({}), "a/constants.pkl": b""}, "TorchScript"),
        ({"a/data.pkl": pickle.dumps({}), "a/byteorder": b"big"}, "big-endian"),
        ({"a/data.pkl": b"\x80"}, "cannot be read"),
        ({"a/data.pkl": pickle.dumps({"x": 1})}, "no state dict"),
        ({"a/data.pkl": pickle.dumps([1])}, "whole pickled list"),
        ({"a/data.pkl": b"cmy.net\nNet\n)\x81."}, "whole pickled my.net.Net"),
    ],
)
def test_what_is_no_state_dict(tmp_path, entries, problem):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    with pytest.raises(InputError, match=problem), open_state(path):
        pass


def test_compressed_entries_are_refused(tmp_path):
    """A few compressed bytes could expand into gigabytes."""
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", pickle.dumps({}))
    with pytest.raises(InputError, match="compressed"):
        TorchFile(tmp_path / "a.pt")


def test_the_format_before_zip(tmp_path):
    out = io.BytesIO()
    pickle.dump(0x1950A86A20F9469CFC6C, out, protocol=2)
    (tmp_path / "a.pth").write_bytes(out.getvalue() + b"more")
    with pytest.raises(InputError, match=r"before PyTorch 1\.6"):
        TorchFile(tmp_path / "a.pth")


def test_a_storage_that_is_missing(tmp_path):
    save(tmp_path / "whole.pt", {"x": np.ones(3, np.float32)})
    with zipfile.ZipFile(tmp_path / "whole.pt") as old, zipfile.ZipFile(tmp_path / "a.pt", "w") as new:
        for name in old.namelist():
            if not name.endswith("data/0"):
                new.writestr(name, old.read(name))
    with TorchFile(tmp_path / "a.pt") as file:
        assert isinstance(file.content["x"], Tensor)
        with pytest.raises(InputError, match="no data/0"):
            file.array(file.content["x"], "x")
