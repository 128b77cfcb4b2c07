"""The ONNX graphs, run by onnxruntime, give what the models give, for sets of 1 to 4,096 faces."""

import jax
import numpy as np
import onnxruntime as runtime
import pytest

import fpsset
from fpsset.commands.cli import main
from fpsset.data.synthetic import make_synthetic
from fpsset.inference.onnx_export import export_onnx
from fpsset.models.pooling import PLAIN_POOLINGS
from fpsset.weights.cards import AggregatorCard
from tests.sets import make_set, random_coreset_net

DIM = 32
NETS = {"published": (False, False), "quality": (True, True)}  # quality, by_media


@pytest.fixture(scope="module")
def models():
    table = make_synthetic(60, 0, dim=DIM)[0]
    found = {name: fpsset.fit(table, name) for name in ("posterior", "whitened")}
    found |= {pooling: fpsset.PlainAggregator(pooling=pooling) for pooling in PLAIN_POOLINGS}
    return found | {name: coreset_net(*options) for name, options in NETS.items()}


def coreset_net(quality: bool, by_media: bool):
    params = random_coreset_net(fpsset.FaceCoresetNet(num_heads=2, quality=quality), DIM)
    return fpsset.Aggregator(
        params, AggregatorCard(3, 2, dim=DIM, norm_scale=2.0, quality=quality, by_media=by_media)
    )


def padded(model, sizes):
    sets = [make_set(place, size, dim=DIM) for place, size in enumerate(sizes)]
    media = [np.random.default_rng(size).integers(0, 1 + size // 3, size) for size in sizes]
    return model.pad([e for e, _ in sets], [n for _, n in sets], media_list=media)


def feeds(sets, scale: float, media: bool) -> dict:
    given = {"embeddings": sets.embeddings, "norms": sets.norms / np.float32(scale), "mask": sets.mask}
    return given | ({"media": sets.media.astype(np.int64)} if media else {})


@pytest.mark.parametrize("media", [True, False])
@pytest.mark.parametrize("name", ["posterior", "whitened", *PLAIN_POOLINGS, *NETS])
def test_the_graph_is_the_model(name, media, models, tmp_path):
    model = models[name]
    export_onnx(tmp_path / "a.onnx", model, media)
    session = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    every = padded(model, [1, 3, 40, 17, 4096])
    every = every.replace(mask=every.mask & (np.arange(5) != 3)[:, None])  # the fourth has no faces
    given = every if media else every.replace(media=None, media_size=None)
    wanted = jax.device_get(jax.jit(model.module.apply)(model.variables, given))
    for part, slots in ((slice(0, 4), 40), (slice(4, 5), 4096)):
        sets = jax.tree.map(lambda array, part=part, slots=slots: array[part, :slots], every)
        want = jax.tree.map(lambda array, part=part: array[part], wanted)
        descriptor, norm, picks = session.run(None, feeds(sets, model.norm_scale, media))
        np.testing.assert_array_equal(picks, want.coreset_indices)
        np.testing.assert_allclose(descriptor, want.descriptor, atol=2e-5)
        np.testing.assert_allclose(norm, want.norm, rtol=1e-4)
        holes = feeds(sets, model.norm_scale, media)
        holes["embeddings"] = np.where(sets.mask[..., None], holes["embeddings"], np.nan)
        holes["norms"] = np.where(sets.mask, holes["norms"], np.nan)
        if media:
            holes["media"] = np.where(sets.mask, holes["media"], -7)
        for clean, again in zip((descriptor, norm, picks), session.run(None, holes), strict=True):
            np.testing.assert_array_equal(clean, again)


def test_the_command(models, tmp_path):
    models["posterior"].save(tmp_path / "model")
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "a.onnx")]) == 0
    session = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["embeddings", "norms", "mask"]
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "a.onnx"), "--media"]) == 0
    session = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["embeddings", "norms", "mask", "media"]


def test_the_command_takes_plain_models_by_name(tmp_path, capsys):
    assert main(["export", "plain", str(tmp_path / "a.onnx")]) == 0
    assert main(["export", "plain", str(tmp_path / "a.stablehlo")]) == 2
    assert "takes embeddings of any width" in capsys.readouterr().err
    assert main(["export", "posterior", str(tmp_path / "b.onnx")]) == 2
    assert "fpsset fit FEATURES DIR, then export DIR" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
