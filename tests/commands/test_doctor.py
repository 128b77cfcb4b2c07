"""fpsset doctor: findings, layout and bad input."""

import contextlib
import io
import json
import os

import jax
import pytest

from fpsset.commands import cli
from fpsset.commands.doctor import _kernel_line
from fpsset.data.files import write_features
from fpsset.data.simulated_ijb import simulate_ijb
from fpsset.data.synthetic import make_synthetic
from fpsset.inference import kernels
from tests.commands.lines import refused
from tests.forked import Forked
from tests.images.images import write_people
from tests.images.test_recognisers import network

SMALL = ["--dim=32", "--people=50", "--batch-size=4", "--set-size=6", "--faces=24", "--coreset-size=1"]
BAD = {
    "no_folder": (["--data={tmp}/nowhere"], "nowhere: no such folder"),
    "weights_alone": (["--weights={tmp}/net.onnx"], "--weights and --images must be given together"),
    "heads": (["--dim=31"], "--dim is 31; it must be even"),
    "size": (["--people=0"], "--people is 0; it must be at least 1"),
    "no_weights": (
        ["--weights={tmp}/none.ckpt", "--images={tmp}/people"],
        "none.ckpt: no such weights",
    ),
}


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doctor")
    write_people(folder / "people")
    network(folder / "net.onnx")
    write_features(folder / "good.npz", make_synthetic(4, 0, 16)[0])
    (folder / "torn.npz").write_bytes(b"PK")
    (folder / "pack.rec").touch()
    (folder / "run/checkpoints").mkdir(parents=True)
    simulate_ijb(folder / "whole", "ijbc", 0.001, 0, 16)
    simulate_ijb(folder / "bare/ijbc", "ijbc", 0.001, 0, 16)
    for file in (folder / "bare/ijbc").glob("*features*"):
        file.unlink()
    return folder


def test_json(tmp):
    places = f"--data={tmp}", f"--data={tmp}/bare", f"--weights={tmp}/net.onnx", f"--images={tmp}/people"
    sight = "--color-order=bgr", "--mean=127.5", "--std=128"
    out, err, code = Forked("fpsset.commands.cli", "doctor", "--json", *places, *sight, *SMALL).ended()
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["versions"]["jax"] == jax.__version__
    assert report["versions"]["extras"]["onnx"]["onnxruntime"]
    (device,) = report["devices"]
    assert device["platform"] == "cpu" and device["cores"] == os.cpu_count()
    assert device["memory_bytes"] > 2**28
    programs = report["programs"]
    assert programs["folder"] == os.environ["JAX_COMPILATION_CACHE_DIR"] and programs["writable"] is True
    assert programs["count"] >= 0 and programs["size_bytes"] >= programs["count"]
    found = {os.path.relpath(item["path"], tmp): item for item in report["data"]["found"]}
    kinds = {name: item["kind"] for name, item in found.items()}
    assert kinds == {
        "people": "images",
        "net.onnx": "weights",
        "good.npz": "features",
        "torn.npz": "features",
        "pack.rec": "images",
        "run": "run",
        "whole": "protocol",
        "bare/ijbc": "protocol",
    }
    lacking = {name: item["lacks"] for name, item in found.items() if item["lacks"]}
    assert set(lacking) == {"torn.npz", "pack.rec", "run", "bare/ijbc"}
    assert lacking["pack.rec"] == "no pack.idx beside it" and "features" in lacking["bare/ijbc"]
    assert set(report["data"]["none_of"]) == {"dataset"}
    color = report["color_order"]
    assert (color["color_order"], color["people"], color["images"]) == ("bgr", 3, 9)
    assert all(isinstance(color[name], float) for name in ("stated", "swapped", "gain_low"))
    assert isinstance(color["looks_wrong"], bool)
    assert report["kernel"] is None  # on a CPU
    memory = report["memory"]
    assert memory["sizes"]["people"] == 50
    # AdamW keeps two moments of the aggregator's parameters; the head has a fixed column of each class.
    kept = 3 * memory["aggregation"]["state"] + 4 * 32 * 50
    assert kept <= memory["training"]["state"] < kept + 100
    assert memory["aggregation"]["inputs"] == 4 * 6 * (32 * 4 + 4 + 1)  # embeddings, norms and mask
    for need in (memory["training"], memory["aggregation"]):
        assert need["total"] == need["state"] + need["inputs"] + need["working"] and need["working"] > 0


@pytest.fixture(scope="module")
def page(tmp):
    """What doctor prints where there is a kernel, and it is wrong."""
    found = kernels.KernelCheck(same_picks=False, largest_difference=0.5, agrees=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "has_kernels", lambda: True)
        patch.setattr(kernels, "check_kernel", lambda: found)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert cli.main(["doctor", f"--data={tmp}/people", *SMALL]) == 0
    assert err.getvalue() == ""
    return out.getvalue()


def test_a_page_fits_a_terminal_of_80_columns_without_colour(page, tmp):
    assert page.startswith("versions\n") and "\x1b" not in page
    assert all(len(line) <= 80 or str(tmp) in line for line in page.splitlines())
    for title in (
        "versions",
        "extras",
        "devices",
        "compiled programs",
        "kernel for small sets",
        "memory, as the compiler estimates it",
        "data",
        "colour order",
    ):
        assert title in page.splitlines()
    assert "not checked: give --weights and --images" in page


@pytest.mark.parametrize("arguments, says", BAD.values(), ids=BAD)
def test_bad_input_is_one_line(tmp, capsys, arguments, says):
    assert says in refused(capsys, "doctor", *(argument.format(tmp=tmp) for argument in arguments))


def test_a_kernel_is_compared_with_xla(page):
    said = " ".join(page.split())
    assert "WRONG: other picks than XLA, descriptors 5e-01 apart; set FPSSET_KERNELS=0" in said
    assert "the picks of XLA, descriptors 3e-06 apart" in kernel_line((True, 3e-6, True))
    assert "WRONG: descriptors 5e-01 apart from XLA's; set" in kernel_line((True, 0.5, False))


def kernel_line(found: tuple) -> str:
    return _kernel_line(kernels.KernelCheck(*found)._asdict())
