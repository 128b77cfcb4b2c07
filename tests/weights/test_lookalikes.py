"""Checkpoints that resemble supported ones are refused by the name of what they are."""

import numpy as np
import pytest

import fpsset
from fpsset.commands.cli import main
from fpsset.errors import InputError
from fpsset.models.iresnet import IResNetConfig
from tests.torch_files import aggregator_state, random_variables, state_dict, write

LAYER = "aggregate_model.decoder_layer1."
# Enough of each layout's parameter names, from the public code of CVLface.
VIT = ("pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "feature.0.weight")
SWIN = ("features.0.0.weight", "features.1.0.attn.qkv.weight", "features.1.0.attn.logit_scale")
BACKBONES = {
    "a ViT with iRPE": (*VIT, "blocks.0.attn.rpe_k.lookup_table_weight"),
    "a part-fViT": ("mobilenet.features.0.0.weight", "patch_emb.weight", "vit.pos_embed", "vit.norm.weight"),
    "a Swin transformer": SWIN,
    "a Swin transformer with KP-RPE": (*SWIN, "keypoint_linear.weight"),
}


def later(state: dict, dim: int = 32) -> dict:
    """The state of the author's later code, where two layers keep the values that they started from."""
    return state | {
        f"{LAYER}norm2.weight": np.ones(dim, np.float32),
        f"{LAYER}norm2.bias": np.zeros(dim, np.float32),
        f"{LAYER}multihead_attn1.in_proj_bias": np.zeros(3 * dim, np.float32),
        f"{LAYER}multihead_attn1.out_proj.bias": np.zeros(dim, np.float32),
    }


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("prefix", ["net.", "model.net.", "model.", "module.net.", ""])
def test_other_backbones_are_refused_by_name(tmp_path, name, prefix):
    state = {prefix + key: np.zeros(4, np.float32) for key in BACKBONES[name]}
    with pytest.raises(InputError, match=rf"a\.pt: its backbone is {name}, which is not supported here"):
        fpsset.load_official(write(tmp_path / "a.pt", state), color_order="rgb")


def test_an_aggregator_on_another_backbone_is_refused_by_name(tmp_path, capsys):
    state = aggregator_state(32) | {f"model.{key}": np.zeros(4, np.float32) for key in SWIN}
    source = write(tmp_path / "a.ckpt", {"state_dict": state})
    assert main(["convert", str(source), str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert "its backbone is a Swin transformer" in err and err.count("\n") == 1 and not out
    assert not (tmp_path / "out").exists()


def test_the_later_attention_is_refused_by_name(tmp_path):
    path = write(tmp_path / "a.ckpt", {"state_dict": later(aggregator_state(32))})
    with pytest.raises(InputError, match="never trained: it comes from the author's later code"):
        fpsset.load_official(path)


def test_an_untrained_aggregator_and_a_partly_trained_one_are_read(tmp_path):
    untrained = later(aggregator_state(32)) | {
        f"{LAYER}norm1.weight": np.ones(32, np.float32),
        f"{LAYER}norm1.bias": np.zeros(32, np.float32),
    }
    trained = aggregator_state(32)
    for name in ("norm2.weight", "norm2.bias", "multihead_attn1.in_proj_bias"):
        one_moved = later(trained) | {LAYER + name: trained[LAYER + name]}
        assert "aggregator" in fpsset.load_official(write(tmp_path / "b.ckpt", {"state_dict": one_moved}))
    assert "aggregator" in fpsset.load_official(write(tmp_path / "a.ckpt", {"state_dict": untrained}))


def test_insightface_layout_inside_cvlface_is_read(tmp_path):
    config = IResNetConfig((1, 1, 1, 1), "insightface", width=8)
    state = state_dict(random_variables(config), config, "net.")
    weights = fpsset.load_official(write(tmp_path / "a.pt", state))
    assert (weights.card.family, weights.card.backbone.color_order) == ("CVLface", "rgb")
