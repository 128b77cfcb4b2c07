"""The exported aggregator, reloaded, gives the same results as the model for any batch and set size."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import fpsset
from fpsset.commands.cli import main
from fpsset.inference.export import OUTPUTS
from tests.sets import make_set
from tests.torch_files import aggregator_state, save


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "a.ckpt"
    save(path, {"state_dict": aggregator_state(32), "hyper_parameters": {"coreset_size": 3}})
    return path


@pytest.fixture(scope="module")
def exported(checkpoint):
    path = checkpoint.with_suffix(".stablehlo")
    assert main(["export", str(checkpoint), str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def loaded(exported):
    return jax.export.deserialize(exported.read_bytes())


@pytest.fixture(scope="module")
def model(checkpoint):
    return fpsset.load(checkpoint)


@pytest.fixture(scope="module")
def apply(model):
    return jax.jit(model.module.apply)


def padded(batch: int, size: int):
    sets = [make_set(seed, 1 + (7 * seed) % size, dim=32) for seed in range(batch)]
    return fpsset.pad_sets([e for e, _ in sets], [n for _, n in sets], size=size)


@pytest.mark.parametrize("batch, size", [(1, 1), (1, 2), (3, 5), (4, 40)])
def test_reloaded(loaded, model, apply, batch, size):
    assert set(loaded.platforms) == {"cpu", "cuda", "tpu"}
    sets = padded(batch, size)
    got = loaded.call(sets.embeddings, sets.norms, sets.mask)
    # The model itself is compiled for one shape only.
    larger = jax.tree.map(
        lambda array: np.pad(array, [(0, 4 - batch), (0, 40 - size)] + [(0, 0)] * (array.ndim - 2)), sets
    )
    want = jax.tree.map(lambda array: array[:batch], jax.device_get(apply(model.variables, larger)))
    assert set(got) == set(OUTPUTS)
    np.testing.assert_array_equal(got["coreset_indices"], want.coreset_indices)
    np.testing.assert_allclose(got["descriptor"], want.descriptor, atol=1e-6)
    np.testing.assert_allclose(got["norm"], want.norm, rtol=1e-5)


def test_padding_reaches_nothing(loaded):
    sets = padded(4, 40)
    clean = loaded.call(sets.embeddings, sets.norms, sets.mask)
    holes = loaded.call(
        np.where(sets.mask[..., None], sets.embeddings, np.nan),
        np.where(sets.mask, sets.norms, np.nan),
        sets.mask,
    )
    for name in OUTPUTS:
        np.testing.assert_array_equal(clean[name], holes[name])


def test_it_needs_jax_alone(exported, tmp_path):
    sets = padded(2, 4)
    np.savez(tmp_path / "sets.npz", e=sets.embeddings, n=sets.norms, m=sets.mask)
    code = (
        "import sys, numpy as np, jax; from jax import export\n"
        f"f = np.load({str(tmp_path / 'sets.npz')!r})\n"
        f"out = export.deserialize(open({str(exported)!r}, 'rb').read()).call(f['e'], f['n'], f['m'])\n"
        "print(out['descriptor'].shape, [m for m in ('fpsset', 'flax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(2, 32) []"


def test_media(checkpoint, model, apply, tmp_path):
    path = tmp_path / "media.stablehlo"
    assert main(["export", str(checkpoint), str(path), "--media", "--platforms", "cpu"]) == 0
    loaded = jax.export.deserialize(path.read_bytes())
    parts = [make_set(seed, size, dim=32) for seed, size in enumerate((7, 3))]
    media = [np.arange(7) // 3, np.zeros(3, int)]
    sets = fpsset.pad_sets([e for e, _ in parts], [n for _, n in parts], media_list=media)
    codes = np.where(sets.mask, sets.media, -9).astype(np.int32)
    got = loaded.call(sets.embeddings, sets.norms, sets.mask, codes)
    want = apply(model.variables, sets)
    np.testing.assert_allclose(got["descriptor"], want.descriptor, atol=1e-6)


def test_an_unknown_platform(checkpoint, tmp_path, capsys):
    assert main(["export", str(checkpoint), str(tmp_path / "x"), "--platforms", "abacus"]) == 2
    assert "'abacus'" in capsys.readouterr().err and not (tmp_path / "x").exists()
