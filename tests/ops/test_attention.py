"""Absorbed attention against the textbook form, and its mask."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fpsset.ops.attention import AttentionParams, masked_attention
from tests.sets import seeds, sizes

HEADS, DEPTH = 4, 8
DIM = HEADS * DEPTH

attend = jax.jit(masked_attention)


def make_params(seed):
    rng = np.random.default_rng(seed)
    shapes = AttentionParams(
        query=(DIM, HEADS, DEPTH),
        query_bias=(HEADS, DEPTH),
        key=(DIM, HEADS, DEPTH),
        value=(DIM, HEADS, DEPTH),
        value_bias=(HEADS, DEPTH),
        out=(HEADS, DEPTH, DIM),
        out_bias=(DIM,),
    )
    return AttentionParams(*[rng.standard_normal(s).astype(np.float32) / np.sqrt(DIM) for s in shapes])


def textbook(queries, keys, values, params):
    q = np.einsum("kc,chd->hkd", queries, params.query) + params.query_bias[:, None]
    k = np.einsum("nc,chd->hnd", keys, params.key)
    v = np.einsum("nc,chd->hnd", values, params.value) + params.value_bias[:, None]
    logits = q @ k.swapaxes(-1, -2) / np.sqrt(DEPTH)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("hkd,hdc->kc", weights @ v, params.out) + params.out_bias


def make_inputs(seed, queries, size):
    rng = np.random.default_rng([seed, queries, size])
    return tuple(rng.standard_normal((n, DIM)).astype(np.float32) for n in (queries, size, size))


@given(seeds, st.integers(1, 8), sizes)
def test_masked_equals_removed_equals_textbook(seed, queries, size):
    q, k, v = make_inputs(seed, queries, size)
    params = make_params(seed)
    places = np.sort(np.random.default_rng(seed).permutation(64)[:size])
    padded_k, padded_v = np.full((2, 64, DIM), np.nan, np.float32)
    padded_k[places], padded_v[places] = k, v
    mask = np.isin(np.arange(64), places)
    expected = textbook(q, k, v, params)
    np.testing.assert_allclose(attend(q, k, v, np.ones(size, bool), params), expected, atol=2e-5)
    np.testing.assert_allclose(attend(q, padded_k, padded_v, mask, params), expected, atol=2e-5)


@given(seeds)
@settings(max_examples=10)
def test_vmap_equals_batch_equals_loop(seed):
    stacks = [
        np.stack(arrays) for arrays in zip(*[make_inputs(seed + i, 3, 9) for i in range(4)], strict=True)
    ]
    mask = np.random.default_rng(seed).random((4, 9)) < 0.7
    params = make_params(seed)
    loop = np.stack([attend(*one, params) for one in zip(*stacks, mask, strict=True)])
    np.testing.assert_allclose(attend(*stacks, mask, params), loop, atol=1e-5)
    mapped = jax.vmap(masked_attention, in_axes=(0, 0, 0, 0, None))(*stacks, mask, params)
    np.testing.assert_allclose(mapped, loop, atol=1e-5)


def test_padding_gets_no_gradient():
    q, k, v = make_inputs(0, 3, 8)
    mask = np.arange(8) < 5
    k[5:], v[5:] = np.nan, np.nan
    grads = jax.grad(lambda q, k, v: attend(q, k, v, mask, make_params(0)).sum(), argnums=(0, 1, 2))(q, k, v)
    assert all(np.isfinite(g).all() for g in grads)
    assert not np.any(grads[1][5:]) and not np.any(grads[2][5:])


def test_no_real_key_leaves_the_bias_alone():
    q, k, v = make_inputs(0, 2, 4)
    params = make_params(0)
    out = attend(q, k, v, np.zeros(4, bool), params)
    np.testing.assert_allclose(out, np.broadcast_to(params.out_bias, out.shape), atol=1e-6)


def test_bfloat16_stays_near_float32():
    q, k, v = make_inputs(1, 3, 40)
    params, mask = make_params(1), np.ones(40, bool)
    half = [jnp.asarray(x, jnp.bfloat16) for x in (k, v)]
    out = attend(q, *half, mask, params)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, attend(q, k, v, mask, params), atol=0.02)
