"""Products in the precision of their operands, read from the programs that chips get."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fpsset
from fpsset.models.iresnet import IResNet, IResNetConfig
from fpsset.models.pooling import WhitenedMedia
from fpsset.models.posterior import PosteriorPooling
from fpsset.models.vit import ViT, ViTConfig
from fpsset.ops.metric import cosines
from fpsset.ops.precision import einsum, matmul, precision_of


def faces(sets=4, size=8, dim=64):
    shape = jax.ShapeDtypeStruct
    return fpsset.FaceSet(
        shape((sets, size, dim), jnp.float32), shape((sets, size), jnp.float32), shape((sets, size), bool)
    )


@functools.cache
def traced(model, *inputs):
    """(A model's call, traced once for all platforms; the shapes of its variables)."""
    return jax.jit(model.apply), jax.eval_shape(model.init, jax.random.key(0), *inputs)


def program(model, *inputs, platform: str) -> str:
    apply, variables = traced(model, *inputs)
    return jax.export.export(apply, platforms=[platform])(variables, *inputs).mlir_module()


def products(text: str) -> list[str]:
    return [
        line for line in text.splitlines() if re.search(r"stablehlo\.(dot_general|convolution|dot)\b", line)
    ]


def check(text: str, narrow: bool, exact_too: bool = False) -> None:
    """All products are exact, or `narrow`: all of bfloat16 operands but for exact ones with `exact_too`."""
    found = products(text)
    assert found
    for line in found:
        operands = re.search(r": \((tensor<[^>]*>), (tensor<[^>]*>)\)", line).groups()
        if narrow and all("bf16" in kind for kind in operands):
            continue
        assert "bf16" not in "".join(operands), line
        assert not narrow or exact_too, line
        assert line.count("HIGHEST") == 2, line


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_every_product_of_a_float32_model_is_exact(platform):
    models = [fpsset.FaceCoresetNet(num_heads=4, quality=True), PosteriorPooling(), WhitenedMedia()]
    for model in models:
        check(program(model, faces(), platform=platform), False)
    row = jax.ShapeDtypeStruct((4, 64), jnp.float32)
    check(jax.export.export(jax.jit(cosines), platforms=[platform])(row, row).mlir_module(), False)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_backbone_multiplies_in_its_dtype(platform, dtype):
    net = IResNet(IResNetConfig((1, 1, 1, 1), squeeze_excite=True), dim=16, folded=True, dtype=dtype)
    images = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
    # The last layer, one product a face, stays float32.
    check(program(net, images, platform=platform), dtype == jnp.bfloat16, exact_too=True)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_transformer_multiplies_in_its_dtype(platform, dtype):
    net = ViT(ViTConfig(1, 2, 32, width=16, patch=16, keypoints=True), dtype=dtype)
    images = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
    keypoints = jax.ShapeDtypeStruct((1, 5, 2), jnp.float32)
    # The last two layers, and where the keypoints lie, stay float32.
    text = program(net, images, keypoints, platform=platform)
    check(text, dtype == jnp.bfloat16, exact_too=True)
    assert len(products(text)) == 10
    exact = [line for line in products(text) if "bf16" not in line]
    assert len(exact) == (3 if dtype == jnp.bfloat16 else 10)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_every_product_of_a_bfloat16_model_is_one_pass(platform):
    model = fpsset.FaceCoresetNet(num_heads=4, dtype=jnp.bfloat16)
    check(program(model, faces(), platform=platform), True)


def test_precision_follows_the_operands():
    assert precision_of(jnp.float32) == jax.lax.Precision.HIGHEST
    assert precision_of(jnp.bfloat16, jnp.float32) == jax.lax.Precision.HIGHEST
    assert precision_of(jnp.bfloat16, jnp.bfloat16) == jax.lax.Precision.DEFAULT
    left, right = np.random.default_rng(0).standard_normal((2, 8, 8)).astype("f")
    np.testing.assert_allclose(matmul(left, right), left @ right, rtol=1e-5, atol=1e-5)
    half = einsum("ab,bc->ac", jnp.asarray(left), jnp.asarray(right), dtype=jnp.bfloat16)
    assert half.dtype == jnp.float32
    rounded = (x.astype(jnp.bfloat16).astype(np.float32) for x in (left, right))
    np.testing.assert_allclose(half, np.matmul(*rounded), rtol=1e-5, atol=1e-5)
