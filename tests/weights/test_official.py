"""Published checkpoints are recognised, read completely, and equal what they were made from."""

import importlib.util
import json
import re

import chex
import jax
import numpy as np
import pytest
import safetensors.numpy

import fpsset
from fpsset.commands.cli import main
from fpsset.errors import InputError
from fpsset.models.iresnet import IResNetConfig
from fpsset.weights.cards import read_weights, save_weights
from tests.sets import make_set
from tests.torch_files import TINY, random_variables, state_dict, write

TINY_INSIGHT = IResNetConfig((1, 1, 1, 1), "insightface", width=8)


def test_face_coreset_net(tmp_path, official, backbone):
    weights = fpsset.load_official(write(tmp_path / "a.ckpt", official))
    assert set(weights) == {"aggregator", "head", "backbone"}
    chex.assert_trees_all_equal(weights["backbone"], backbone)
    card = weights.card
    assert (card.family, card.backbone.color_order) == ("FaceCoresetNet", "bgr")
    assert card.backbone.architecture == "ir[1, 1, 1, 1] (adaface, width 8)"
    assert card.aggregator.coreset_size == 2 and card.aggregator.backbone == card.backbone.digest
    assert card.hyperparameters == {"arch": "ir_8", "coreset_size": 2, "m": 0.7, "h": 0.3, "s": 32.0}
    ignored = "; ".join(card.ignored)
    for words in ("template_model", "never called (10)", "head.t", "data_root", "optimizer_states", "epoch"):
        assert words in ignored, words
    head = fpsset.AdaFaceHead(num_classes=5, margin=card.hyperparameters["m"])
    fresh = jax.eval_shape(
        head.init, jax.random.key(0), np.ones((2, 32), np.float32), np.ones(2, np.float32), np.zeros(2, int)
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(weights["head"], fresh)


@pytest.mark.parametrize(
    "family, config, prefix, order",
    [
        ("AdaFace", TINY, "model.", "bgr"),
        ("CVLface", TINY, "net.", "rgb"),
        ("CVLface", TINY, "model.net.", "rgb"),
        ("InsightFace", TINY_INSIGHT, "", "rgb"),
        ("InsightFace", TINY_INSIGHT, "module.", "rgb"),
        ("CVLface", TINY, "module.model._orig_mod.net.module.", "rgb"),
        ("AdaFace", IResNetConfig((1, 1, 1, 1), bottleneck=True, width=8), "model.", "bgr"),
        ("AdaFace", IResNetConfig((2, 1, 1, 1), squeeze_excite=True, width=16), "module.model.", "bgr"),
    ],
)
def test_backbones_alone(tmp_path, family, config, prefix, order):
    variables = random_variables(config)
    weights = fpsset.load_official(write(tmp_path / "a.pth", state_dict(variables, config, prefix)))
    assert set(weights) == {"backbone"}
    assert (weights.card.family, weights.card.backbone.color_order) == (family, order)
    chex.assert_trees_all_equal(weights["backbone"], variables)


@pytest.mark.parametrize("name", ["net", "backbone", "ema"])
def test_a_state_dict_may_have_any_name(tmp_path, backbone, name):
    state = state_dict(backbone, TINY, "model.")
    weights = fpsset.load_official(write(tmp_path / "a.pth", {name: state, "epoch": 3}))
    chex.assert_trees_all_equal(weights["backbone"], backbone)
    assert "epoch" in "; ".join(weights.card.ignored)
    with pytest.raises(InputError, match=r"a\.pth: holds state dicts under net, ema; save the one you mean"):
        fpsset.load_official(write(tmp_path / "a.pth", {"net": state, "ema": state}))


def test_a_network_without_a_family_needs_its_colour_order(tmp_path, backbone):
    path = write(tmp_path / "a.pt", state_dict(backbone, TINY))
    with pytest.raises(InputError, match="colour order; state it"):
        fpsset.load_official(path)
    rgb, bgr = (fpsset.load_official(path, color_order=order).card.backbone for order in ("rgb", "bgr"))
    assert rgb.color_order == "rgb" and rgb.digest != bgr.digest  # they embed images differently
    with pytest.raises(InputError, match="must be 'bgr' or 'rgb'"):
        fpsset.load_official(path, color_order="grb")


def test_a_stated_colour_order_cannot_contradict_the_family(tmp_path, backbone):
    path = write(tmp_path / "a.pt", state_dict(backbone, TINY, "net."))
    with pytest.raises(InputError, match="images are rgb, not bgr"):
        fpsset.load_official(path, color_order="bgr")


def test_safetensors(tmp_path, backbone):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(state_dict(backbone, TINY, "net."), path)
    weights = fpsset.load_official(path)
    chex.assert_trees_all_equal(weights["backbone"], backbone)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="truncated or damaged"):
        fpsset.load_official(path)


def broken(state: dict) -> dict[str, tuple[dict, str]]:
    missing = {k: v for k, v in state.items() if k != "model.body.2.res_layer.4.weight"}
    no_norm = {k: v for k, v in state.items() if not k.endswith("norm2.bias")}
    shape = state | {"model.input_layer.0.weight": np.zeros((64, 3, 5, 5), np.float32)}
    return {
        "missing": (missing, "lacks the key 'model.body.2.res_layer.4.weight'"),
        "missing of the aggregator": (no_norm, r"lacks the key 'aggregate_model.*norm2.bias'"),
        "extra": (
            state | {"model.body.0.gate": np.zeros(3, np.float32)},
            "an unexpected key, 'model.body.0.gate'",
        ),
        "shape": (shape, "'model.input_layer.0.weight' does not fit the shapes"),
        "dense": (
            state | {"model.output_layer.3.weight": np.zeros((512, 100), np.float32)},
            "'model.output_layer.3.weight' does not fit the shapes",
        ),
        "aggregator": (
            state | {"aggregate_model.pos_trans_norm.bias": np.zeros(31, np.float32)},
            "'aggregate_model.pos_trans_norm.bias' does not fit the shapes",
        ),
        "heads": (
            state | {"aggregate_model.pos_trans_norm.weight": np.zeros(31, np.float32)},
            "'aggregate_model.pos_trans_norm.weight' does not fit the shapes",
        ),
        "head": (state | {"head.kernel": np.zeros(5, np.float32)}, "'head.kernel' does not fit the shapes"),
        "family": ({"encoder.weight": np.zeros(3, np.float32)}, "not of a known family"),
    }


def test_broken_checkpoints_are_one_line(tmp_path, official):
    for name, (state, problem) in broken(official["state_dict"]).items():
        path = write(tmp_path / "a.ckpt", official | {"state_dict": state})
        with pytest.raises(InputError, match=problem) as error:
            fpsset.load_official(path)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value), name


def test_damaged_arrays_are_called_damaged(tmp_path, official):
    """Not a shape that does not fit: an InputError is a ValueError too."""
    path = write(tmp_path / "a.ckpt", official)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        fpsset.load_official(path)
    assert "does not fit" not in str(error.value) and str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("size", [-1, 0, 4097, 10**9, "1e3", "٣"])
def test_a_bad_coreset_size(tmp_path, official, size):
    path = write(tmp_path / "a.ckpt", official | {"hyper_parameters": {"coreset_size": size}})
    with pytest.raises(InputError, match=f"coreset_size is {size}; it must be a whole number in 1"):
        fpsset.load_official(path)


def test_hyperparameters_without_end_are_left_out(tmp_path, official):
    path = write(tmp_path / "a.ckpt", official | {"hyper_parameters": {"m": 10**5000, "arch": "a" * 10**6}})
    assert fpsset.load_official(path).card.hyperparameters == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, np.float64(1e300)])
def test_weights_that_are_not_finite_are_refused_by_key(tmp_path, official, value):
    key = "aggregate_model.pos_trans_norm.bias"
    spoilt = official["state_dict"][key].astype(np.float64)
    spoilt[3] = value
    path = write(tmp_path / "a.ckpt", official | {"state_dict": official["state_dict"] | {key: spoilt}})
    with pytest.raises(InputError, match=rf"a\.ckpt: '{key}' holds a value that is not finite"):
        fpsset.load_official(path)


def test_convert(tmp_path, official, capsys):
    source, target = write(tmp_path / "a.ckpt", official), tmp_path / "converted"
    for _ in range(2):  # the second replaces
        assert main(["convert", str(source), str(target)]) == 0
    out = capsys.readouterr().out
    assert "bgr images" in out and "2 picks, 32 wide" in out and "ignored: " in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ckpt", "converted"]
    weights, again = fpsset.load_official(source), read_weights(target)
    chex.assert_trees_all_equal(dict(weights), dict(again))
    assert again.card == weights.card
    card = json.loads((target / "card.json").read_text())
    assert re.fullmatch("[0-9a-f]{64}", card["sha256"])
    assert (
        card["backbone"].items() >= {"color_order": "bgr", "alignment": "arcface_112", "mean": 127.5}.items()
    )
    assert card["aggregator"]["norm_scale"] == 1.0 and card["licence"]

    faces = (*make_set(0, 30, dim=32), np.repeat([3, 1, 2], 10))
    converted, direct = fpsset.load(target), fpsset.load(source)
    assert converted.module.coreset_size == 2 and converted.digest == direct.digest
    chex.assert_trees_all_equal(converted.aggregate(*faces), direct.aggregate(*faces))


def test_convert_refuses(tmp_path, official, backbone, capsys):
    source = write(tmp_path / "a.ckpt", official)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("x")
    save_weights(tmp_path / "used", fpsset.load_official(source))
    (tmp_path / "used/mine.stablehlo").write_text("x")
    bare = write(tmp_path / "bare.pt", state_dict(backbone, TINY))
    cases = {
        ("convert", source, tmp_path / "full"): "is not a folder of converted weights",
        ("convert", source, tmp_path / "used"): "used: holds 'mine.stablehlo', which would be lost",
        ("convert", source, tmp_path): "contains IN",
        ("export", source, source): "is also WEIGHTS",
        ("convert", tmp_path / "none.ckpt", tmp_path / "out"): "cannot be read",
        ("convert", bare, tmp_path / "out"): "colour order",
        ("convert", source): "Missing argument",
        ("convert", source, tmp_path / "out", "--color-order", "xyz"): "xyz",
        ("frobnicate",): "frobnicate",
    }
    for arguments, problem in cases.items():
        assert main(list(map(str, arguments))) == 2
        out, err = capsys.readouterr()
        assert problem in err and err.count("\n") == 1 and not out
    fpsset.load(source)
    assert (tmp_path / "used/mine.stablehlo").exists()
    assert not (tmp_path / "out").exists() and (tmp_path / "full/thesis.tex").exists()


def test_a_backbone_is_no_aggregator(tmp_path, backbone):
    path = write(tmp_path / "a.pt", state_dict(backbone, TINY, "net."))
    with pytest.raises(InputError, match="a backbone but no aggregator"):
        fpsset.load(path)


def test_galleries_belong_to_their_model(tmp_path, official):
    first = fpsset.load(write(tmp_path / "a.ckpt", official))
    other = fpsset.load(write(tmp_path / "b.ckpt", official | {"hyper_parameters": {"coreset_size": 3}}))
    ids = np.array(["ann", "bob"])
    _, descriptors, norms, _ = first.aggregate(*make_set(0, 8, dim=32), np.repeat(ids, 4))
    first.save_gallery(tmp_path / "gallery.npz", ids, descriptors, norms)
    gallery = fpsset.load(tmp_path / "a.ckpt").load_gallery(tmp_path / "gallery.npz")
    np.testing.assert_array_equal(gallery.ids, ids)
    np.testing.assert_allclose(gallery.descriptors, descriptors, atol=1e-6)
    with pytest.raises(InputError, match="was made by the model"):
        other.load_gallery(tmp_path / "gallery.npz")
    for wrong in (np.array(["ann", None]), ids[:1]):
        with pytest.raises(InputError, match="ids must be"):
            first.save_gallery(tmp_path / "gallery.npz", wrong, descriptors, norms)
    np.savez(tmp_path / "features.npz", embeddings=descriptors, norms=norms)
    with pytest.raises(InputError, match="no column 'ids'"):
        first.load_gallery(tmp_path / "features.npz")


def test_golden_checkpoint(shared):
    """File -> load -> descriptors, through the public path alone."""
    model = fpsset.load(shared / "parity/aggregator.ckpt")
    assert model.module.coreset_size == 3
    with np.load(shared / "parity/aggregator_eval.npz") as file:
        cases = {int(key[1:].split("/")[0]) for key in file.files}
        faces = {n: (file[f"n{n}/embeddings"], file[f"n{n}/norms"]) for n in sorted(cases)}
        golden = {
            n: {k: file[f"n{n}/{k}"] for k in ("descriptor", "descriptor_norm", "selected")} for n in cases
        }
    embeddings, norms = (np.concatenate(parts) for parts in zip(*faces.values(), strict=True))
    ids = np.repeat(list(faces), list(faces))
    _, descriptors, lengths, chosen = model.aggregate(embeddings, norms, ids)
    for row, n in enumerate(faces):
        start = sum(m for m in faces if m < n)
        picks = chosen[row][chosen[row] >= 0] - start
        np.testing.assert_array_equal(picks, golden[n]["selected"])
        np.testing.assert_allclose(descriptors[row], golden[n]["descriptor"], atol=2e-5, rtol=0)
        np.testing.assert_allclose(lengths[row], golden[n]["descriptor_norm"], rtol=1e-4)


@pytest.fixture(scope="module")
def rule(shared):
    spec = importlib.util.spec_from_file_location("weights_rule", shared / "parity/weights_rule.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["ir_18", "ir_50", "ir_101", "iresnet18", "iresnet50", "iresnet100"])
def test_golden_backbones(tmp_path, shared, rule, name):
    """A file with the golden weights -> load_official -> embed."""
    insight = name.startswith("iresnet")
    if insight:
        shapes = json.loads((shared / "parity/insightface_keys.json").read_text())[name]
        state = {key: rule.tensor(key, tuple(shape)) for key, shape in shapes.items()}
    else:
        state = rule.state_dict(name, ("model.",))
    weights = fpsset.load_official(write(tmp_path / "a.pth", {"state_dict": state}))
    assert weights.card.backbone.architecture == name
    with np.load(shared / f"parity/{'insightface' if insight else 'backbone'}_eval.npz") as file:
        images = file["images_nchw"].astype(np.float32).transpose(0, 2, 3, 1)
        golden, golden_norms = file[f"{name}/embeddings"], file[f"{name}/norms"].reshape(-1)
    embeddings, norms = fpsset.embed(weights["backbone"], images)
    assert (embeddings * golden).sum(-1).min() > 0.99999
    np.testing.assert_allclose(embeddings, golden, atol=1e-5)
    np.testing.assert_allclose(norms, golden_norms, rtol=1e-5)
    if name not in ("ir_18", "ir_101"):
        return
    half, half_norms = fpsset.embed(weights["backbone"], images, dtype=jax.numpy.bfloat16)
    assert 0.9998 < (half * golden).sum(-1).min() < 0.999999
    np.testing.assert_allclose(half_norms, golden_norms, rtol=5e-3)
