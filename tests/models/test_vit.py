"""ViT backbones against a plain NumPy reading of the published layout, and their names, sizes and shapes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

import fpsset
from fpsset.commands.cli import main
from fpsset.config import extraction_config
from fpsset.images.aligned_faces import ARCFACE_112, TEMPLATE, mirrored, places_after_alignment, read_face
from fpsset.images.extract import extract
from fpsset.images.recognisers import backbone_recogniser, load_backbone
from fpsset.models.backbones import backbone_config_of
from fpsset.models.vit import ARCHITECTURES, ViT, ViTConfig, bucket_of_offsets, vit_config_of
from fpsset.weights.cards import Weights, WeightsCard, backbone_card, save_weights
from fpsset.weights.torch_vit import vit_config, vit_variables
from tests import vit_reference
from tests.torch_files import write

TINY = ViTConfig(depth=2, num_heads=2, hidden=24, width=16, patch=16, dim=12)
CARD = backbone_card("vit", "0123abcd", "rgb", 127.5, 127.5)
TINY_KPRPE = ViTConfig(depth=2, num_heads=4, hidden=24, width=16, patch=16, keypoints=True, dim=12)
# The features of the first of `faces()` by CVLface's own code in PyTorch, with the state dicts of
# `vit_reference.draw_state`: its commit d3d09c9, whose keys are exactly those of the state dicts.
GOLDEN = {
    "plain": [
        *(-0.944285, 0.48788, 0.233725, 1.27763, -1.293648, 0.328018),
        *(-1.404554, 1.84215, 2.37527, -0.078365, -0.23948, -0.692295),
    ],
    "kprpe": [
        *(-0.951667, 0.792845, 0.079015, 1.403666, -1.336798, 0.399659),
        *(-1.275468, 1.952871, 2.451801, 0.040608, -0.424038, -0.721435),
    ],
}


def faces(count: int = 2):
    rng = np.random.default_rng(3)
    images = rng.uniform(-1, 1, (count, 112, 112, 3)).astype(np.float32)
    keypoints = rng.uniform(0.2, 0.8, (count, 5, 2)).astype(np.float32)
    return images, keypoints


@pytest.mark.parametrize("config", [TINY, TINY_KPRPE], ids=["plain", "kprpe"])
def test_against_numpy(config):
    state = vit_reference.draw_state(config)
    variables = vit_variables(state, config)
    images, keypoints = faces()
    keypoints = keypoints if config.keypoints else None
    embeddings, norms = jax.device_get(fpsset.embed(variables, images, keypoints=keypoints))
    for number, image in enumerate(images.transpose(0, 3, 1, 2)):
        points = None if keypoints is None else keypoints[number]
        want = vit_reference.features_of(state, config.num_heads, image, points)
        length = np.linalg.norm(want)
        np.testing.assert_allclose(norms[number], length, rtol=1e-5)
        np.testing.assert_allclose(embeddings[number], want / length, atol=2e-6)
    shapes = jax.eval_shape(ViT(config).init, jax.random.key(0), images, keypoints)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, shapes)
    assert vit_config_of(variables) == backbone_config_of(variables) == config
    half, half_norms = jax.device_get(fpsset.embed(variables, images, jnp.bfloat16, keypoints=keypoints))
    assert half.dtype == half_norms.dtype == jnp.float32
    assert 0.995 < (half * embeddings).sum(-1).min() < 0.9999999


@pytest.mark.parametrize("name, config", [("plain", TINY), ("kprpe", TINY_KPRPE)])
def test_against_the_published_code(name, config):
    variables = vit_variables(vit_reference.draw_state(config), config)
    images, keypoints = faces()
    points = keypoints if config.keypoints else None
    embeddings, norms = fpsset.embed(variables, images, keypoints=points)
    np.testing.assert_allclose(embeddings[0] * norms[0], GOLDEN[name], atol=1e-5)


def test_keypoints_matter_and_their_default_is_the_alignment_template():
    variables = vit_variables(vit_reference.draw_state(TINY_KPRPE), TINY_KPRPE)
    images, keypoints = faces()
    default = fpsset.embed(variables, images)
    template = np.broadcast_to(ARCFACE_112 / 112, (2, 5, 2)).astype(np.float32)
    np.testing.assert_array_equal(default[0], fpsset.embed(variables, images, keypoints=template)[0])
    assert np.abs(default[0] - fpsset.embed(variables, images, keypoints=keypoints)[0]).max() > 1e-3
    with pytest.raises(fpsset.InputError, match=r"keypoints must be \[2, 5, 2\], not \[1, 5, 2\]"):
        fpsset.embed(variables, images, keypoints=keypoints[:1])
    plain = vit_variables(vit_reference.draw_state(TINY), TINY)
    with pytest.raises(fpsset.InputError, match="takes no keypoints"):
        fpsset.embed(plain, images, keypoints=keypoints)
    with pytest.raises(ValueError, match=r"\[2, 5, 2\]"):
        ViT(TINY_KPRPE).apply(variables, images)
    with pytest.raises(ValueError, match=r"\[B, 112, 112, 3\]"):
        ViT(TINY).apply(plain, images[:, :56])


def test_offsets_fall_into_buckets():
    grid = 14
    found = bucket_of_offsets(grid).reshape(grid, grid, grid, grid)
    want = [
        [vit_reference.bucket(row - other, column - 3) for column in range(grid)]
        for row in range(grid)
        for other in range(grid)
    ]
    np.testing.assert_array_equal(found[:, :, :, 3].transpose(0, 2, 1).reshape(grid**2, grid), want)
    # Near offsets by themselves, and far ones by their logarithm: 1, 2, 3 and 4 patches off, and 13.
    assert [vit_reference.bucket(0, step) - 24 for step in (0, 1, 2, 3, 4, -13)] == [0, 1, 2, 2, 3, -3]


@pytest.mark.parametrize("name, millions", [("vit_small", 95.95), ("vit_base", 114.87)])
def test_published_sizes(name, millions):
    """Millions of weights, by the layout: tokens, blocks and the two dense layers at the end."""
    config = ARCHITECTURES[name]
    block = 4 * 512**2 + 512 + 2 * 512 * config.hidden + config.hidden + 512 + 4 * 512
    want = 192 * 512 + 512 + 196 * 512 + config.depth * block + 1024 + (196 * 512 + 512) * 512 + 2 * 512
    shapes = jax.eval_shape(ViT(config).init, jax.random.key(0), jnp.zeros((1, 112, 112, 3)))
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    assert count == want and abs(count / 1e6 - millions) < 0.01
    assert vit_config_of(shapes) == config and config.name == name


def test_config_from_a_state_dict():
    for name, config in ARCHITECTURES.items():
        state = {
            "patch_embed.proj.weight": np.empty((512, 3, 8, 8), np.float32),
            "blocks.0.mlp.fc1.weight": np.empty((config.hidden, 512), np.float32),
            f"blocks.{config.depth - 1}.norm1.bias": np.empty(512, np.float32),
            "feature.2.weight": np.empty((512, 512), np.float32),
        }
        if config.keypoints:
            rows = 49 * config.num_heads * config.depth
            state["keypoint_linear.weight"] = np.empty((rows, 10), np.float32)
        assert vit_config(state) == config, name
    state["keypoint_linear.weight"] = np.empty((49 * 7, 10), np.float32)
    with pytest.raises(ValueError, match=r"keypoint_linear\.weight"):
        vit_config(state)
    del state["keypoint_linear.weight"]
    state["blocks.30.norm1.bias"] = np.empty(512, np.float32)
    with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.fc1\.weight"):
        vit_config(state)


@pytest.mark.parametrize("prefix", ["net.", "model.net.", "module.model._orig_mod.net."])
def test_a_checkpoint_is_read(tmp_path, capsys, prefix):
    state = vit_reference.draw_state(TINY_KPRPE) | {"mask_token": np.zeros((1, 1, 16), np.float32)}
    path = write(tmp_path / "a.pt", {prefix + key: value for key, value in state.items()})
    weights = fpsset.load_official(path)
    card = weights.card
    assert (card.family, card.backbone.color_order) == ("CVLface", "rgb")
    assert card.backbone.architecture == "vit_kprpe[2] (4 heads, width 16, patch 16)"
    assert "mask_token" in "; ".join(card.ignored) and card.backbone.mean == card.backbone.std == 127.5
    chex.assert_trees_all_equal(weights["backbone"], vit_variables(state, TINY_KPRPE))
    assert main(["convert", str(path), str(tmp_path / "converted")]) == 0
    assert "keypoints: the landmarks by which" in capsys.readouterr().out
    card, variables = load_backbone(ConfigDict({"weights": str(tmp_path / "converted"), "color_order": ""}))
    recogniser = backbone_recogniser(card, variables, "float32")
    images, _ = faces(3)
    want = fpsset.embed(weights["backbone"], images)
    got = recogniser(np.asarray(images) * 127.5 + 127.5)
    np.testing.assert_allclose(got[0], want[0], atol=2e-5)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-4)


def test_checkpoints_that_are_refused(tmp_path):
    state = vit_reference.draw_state(TINY)
    spoilt = vit_reference.draw_state(TINY_KPRPE)
    cases = {
        "none of CVLface's shapes": {f"net.{key}": value for key, value in state.items()},
        "keys do not determine the colour order": spoilt,
        "its backbone is a ViT, which": {f"model.{key}": value for key, value in state.items()},
        "lacks the key 'net.norm.bias'": {f"net.{k}": v for k, v in spoilt.items() if k != "norm.bias"},
        "an unexpected key, 'net.cls_token'": {f"net.{k}": v for k, v in spoilt.items()}
        | {"net.cls_token": np.zeros(3, np.float32)},
        "'net.feature.2.weight' does not fit": {f"net.{k}": v for k, v in spoilt.items()}
        | {"net.feature.2.weight": np.zeros((12, 3), np.float32)},
    }
    for words, held in cases.items():
        with pytest.raises(fpsset.InputError, match=words) as error:
            fpsset.load_official(write(tmp_path / "a.pt", held))
        assert str(error.value).startswith(f"{tmp_path / 'a.pt'}: ") and "\n" not in str(error.value)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three photos of 200 pixels, with landmarks that no similarity maps onto the template exactly."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    (folder / "crops/anna").mkdir(parents=True)
    lines, landmarks = [], []
    for number in range(3):
        pixels = rng.integers(0, 255, (20, 20, 3), np.uint8)
        image = Image.fromarray(pixels).resize((200, 200), Image.Resampling.BICUBIC)
        image.save(folder / f"crops/anna/{number}.png")
        points = 1.4 * ARCFACE_112 + 15 + rng.normal(0, 4, (5, 2))
        landmarks.append(points)
        lines.append(" ".join([f"anna/{number}.png", *map(str, points.ravel())]))
    (folder / "landmarks.txt").write_text("\n".join(lines))
    return folder, np.array(landmarks)


@pytest.mark.parametrize("config", [TINY_KPRPE, TINY], ids=["kprpe", "plain"])
def test_extraction_gives_each_face_its_landmarks(tmp_path, photos, config):
    folder, landmarks = photos
    variables = vit_variables(vit_reference.draw_state(config), config)
    about = WeightsCard("CVLface", "drawn", "0" * 64, "none", {}, (), CARD, None)
    save_weights(tmp_path / "weights", Weights({"backbone": variables}, about))
    asked = extraction_config()
    asked.images, asked.landmarks = str(folder / "crops"), str(folder / "landmarks.txt")
    asked.weights, asked.out = str(tmp_path / "weights"), str(tmp_path / "features.npz")
    asked.flip, asked.check_color_order, asked.batch_size = True, False, 2
    table = extract(asked)
    crops = np.stack(
        [read_face(folder / f"crops/anna/{number}.png", landmarks[number]) for number in range(3)]
    )
    places = np.stack([places_after_alignment(points) for points in landmarks])
    assert np.abs(places - TEMPLATE).max() > 0.01  # they matter, as checked above
    for view, where, got in (
        (crops, places, table.embeddings),
        (crops[:, :, ::-1], mirrored(places), table.flipped),
    ):
        points = where if config.keypoints else None
        want, _ = fpsset.embed(variables, CARD.normalize(view), keypoints=points)
        got = got / np.linalg.norm(got, axis=1, keepdims=True)
        np.testing.assert_allclose(got, want, atol=1e-3)  # of float16


def test_places_after_alignment():
    """A template that was turned, scaled and moved lies where the template does."""
    turn = np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    landmarks = 3 * ARCFACE_112 @ turn + [40, -7]
    np.testing.assert_allclose(places_after_alignment(landmarks), TEMPLATE, atol=1e-6)
    np.testing.assert_array_equal(places_after_alignment(np.zeros((5, 2))), TEMPLATE)
    off = TEMPLATE[None] + np.float32([[[0.1, 0]] + [[0, 0]] * 4])
    again = mirrored(mirrored(off))
    np.testing.assert_allclose(again, off, atol=1e-6)
    assert mirrored(off)[0, 1, 0] == pytest.approx(111 / 112 - off[0, 0, 0], abs=1e-6)
    image = np.zeros((112, 112, 3), np.uint8)
    image[30, 20] = 255  # a point of the picture, and where it is in the mirror
    assert image[:, ::-1][30, 91].max() == 255
    there = mirrored(np.full((1, 5, 2), [20 / 112, 30 / 112], np.float32))
    np.testing.assert_allclose(112 * there[0, 0], [91, 30], rtol=1e-5)
