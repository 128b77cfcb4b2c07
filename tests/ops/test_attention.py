"""Attention against the textbook form: absorbed projections, blocks, masks, dropout and packs."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from fpsset.ops.attention import (
    Block,
    Dropout,
    absorb,
    attention_sums,
    attention_weights,
    set_attention,
)
from fpsset.ops.direct_attention import self_attention
from tests.ops.attention import DIM, HEADS, make_params, plain, weighed
from tests.sets import seeds


@functools.partial(jax.jit, static_argnames=("block_size", "block"))
def attend(queries, keys, values, mask, params, dropout=None, block_size=None, block=plain):
    return set_attention(queries, (keys, values), mask, block, params, dropout, block_size)


@functools.partial(jax.jit, static_argnums=3)
def weights_of(queries, memory, mask, keys_values, params):
    """[H, K, N]."""
    weights = attention_weights(absorb(queries, params), memory, mask, keys_values)
    return weights.reshape(HEADS, -1, weights.shape[-1])


attend_to_each_other = jax.jit(self_attention)


@jax.jit
def attend_both_ways(x, mask, params):
    """Self-attention, and attention to the same items as a set, in one program."""
    return self_attention(x, mask, params), set_attention(x, (x, x), mask, plain, params)


def textbook(queries, keys, values, params):
    q = np.einsum("kc,chd->hkd", queries, params.query) + params.query_bias[:, None]
    k = np.einsum("nc,chd->hnd", keys, params.key)
    v = np.einsum("nc,chd->hnd", values, params.value) + params.value_bias[:, None]
    logits = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("hkd,hdc->kc", weights @ v, params.out) + params.out_bias


def make_inputs(seed, queries, size):
    rng = np.random.default_rng([seed, queries, size])
    return tuple(rng.standard_normal((n, DIM)).astype(np.float32) for n in (queries, size, size))


@given(seeds, st.sampled_from(((1, 1), (3, 2), (3, 33), (3, 64))))
def test_masked_equals_removed_equals_textbook(seed, queries_and_size):
    queries, size = queries_and_size
    q, k, v = make_inputs(seed, queries, size)
    params = make_params(seed)
    places = np.sort(np.random.default_rng(seed).permutation(64)[:size])
    padded_k, padded_v = np.full((2, 64, DIM), np.nan, np.float32)
    padded_k[places], padded_v[places] = k, v
    mask = np.isin(np.arange(64), places)
    expected = textbook(q, k, v, params)
    np.testing.assert_allclose(attend(q, k, v, np.ones(size, bool), params), expected, atol=2e-5)
    np.testing.assert_allclose(attend(q, padded_k, padded_v, mask, params), expected, atol=2e-5)


@given(seeds, st.sampled_from([1, 7, 16, 31, 32]))
def test_any_block_gives_the_same(seed, block_size):
    q, k, v = make_inputs(seed, 3, 32)
    params = make_params(seed)
    mask = np.random.default_rng(seed).random(32) < 0.5
    mask[7] = True
    # Logits increase along the set, so that every block has a new maximum.
    k = (
        k
        + 3
        * np.arange(32)[:, None]
        * (q[0] @ params.query.reshape(DIM, -1) @ params.key.reshape(DIM, -1).T)
        / DIM
    )
    k[~mask], v[~mask] = np.nan, np.nan
    out = attend(q, k, v, mask, params, block_size=block_size)
    np.testing.assert_allclose(out, textbook(q, k[mask], v[mask], params), atol=5e-5)


@given(seeds, st.integers(1, 8))
def test_self_attention_is_the_textbook_form(seed, size):
    x = make_inputs(seed, 1, size)[1]
    params = make_params(seed)
    padded = np.full((8, DIM), np.nan, np.float32)
    padded[:size] = x
    out = np.asarray(attend_to_each_other(padded, np.arange(8) < size, params))
    np.testing.assert_allclose(out[:size], textbook(x, x, x, params), atol=2e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [(), (1,), (2,), (1, 3)])
def test_every_shape_at_full_width(batch, size):
    # Compilers special-case axes of length 1, and have had bugs there.
    params = make_params(0, heads=8, depth=64)
    x = np.random.default_rng(size).standard_normal((*batch, size, 512)).astype(np.float32)
    mask = np.ones((*batch, size), bool)
    expected = np.reshape([textbook(one, one, one, params) for one in x.reshape(-1, size, 512)], x.shape)
    for out in attend_both_ways(x, mask, params):
        np.testing.assert_allclose(out, expected, atol=2e-5)


@given(seeds)
@settings(max_examples=10)
def test_vmap_equals_batch_equals_loop(seed):
    stacks = [
        np.stack(arrays) for arrays in zip(*[make_inputs(seed + i, 3, 9) for i in range(4)], strict=True)
    ]
    mask = np.random.default_rng(seed).random((4, 9)) < 0.7
    params = make_params(seed)
    loop = np.stack([attend(*one, params) for one in zip(*stacks, mask, strict=True)])
    np.testing.assert_allclose(attend(*stacks, mask, params, block_size=4), loop, atol=1e-5)
    mapped = jax.vmap(attend, in_axes=(0, 0, 0, 0, None))(*stacks, mask, params)
    np.testing.assert_allclose(mapped, loop, atol=1e-5)
    queries, valid = stacks[0], mask[:, :3]
    loop = np.stack([attend_to_each_other(*one, params) for one in zip(queries, valid, strict=True)])
    np.testing.assert_allclose(attend_to_each_other(queries, valid, params), loop, atol=1e-5)


@pytest.mark.parametrize("sets, on_cpu, elsewhere", [(1, 32, 2), (8, 256, 16), (1000, 2048, 2048)])
def test_the_rows_of_a_block_are_those_of_all_sets(sets, on_cpu, elsewhere):
    """2,048 rows on a CPU, 32,768 elsewhere; 32 of each set at least."""
    queries, faces = (jax.ShapeDtypeStruct((sets, n, DIM), jnp.float32) for n in (2, 65_536))
    mask = jax.ShapeDtypeStruct((sets, 65_536), bool)
    program = jax.make_jaxpr(lambda q, x, mask: attention_sums(q, (x, x), mask, plain))(queries, faces, mask)
    assert {int(blocks) for blocks in re.findall(r"length=(\d+)", str(program))} == {on_cpu, elsewhere}


def test_padding_gets_no_gradient_and_blocks_change_none():
    q, k, v = make_inputs(0, 3, 8)
    mask = np.arange(8) < 5
    k[5:], v[5:] = np.nan, np.nan

    def gradients(block_size):
        def loss(q, k, v, params):
            return jnp.square(attend(q, k, v, mask, params, block_size=block_size)).sum()

        gradients_of = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))
        return jax.device_get(gradients_of(q, k, v, make_params(0)))

    whole, blocks = gradients(8), gradients(3)
    assert not np.any(whole[1][5:]) and not np.any(whole[2][5:])
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(blocks), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_gradients_are_those_of_finite_differences():
    q, k, v = make_inputs(3, 2, 5)
    mask, params = np.arange(5) < 4, make_params(3)
    check_grads(
        lambda *qkv: attend(*qkv, mask, params, block_size=2), (q, k, v), 1, ["rev"], atol=2e-2, rtol=2e-2
    )
    check_grads(lambda x: attend_to_each_other(x, mask, params), (k,), 1, ["rev"], atol=2e-2, rtol=2e-2)


def test_no_real_key_leaves_the_bias_alone():
    q, k, v = make_inputs(0, 2, 4)
    params = make_params(0)
    for out in (
        attend(q, k, v, np.zeros(4, bool), params, block_size=3),
        attend_to_each_other(q, np.zeros(2, bool), params),
    ):
        np.testing.assert_allclose(out, np.broadcast_to(params.out_bias, out.shape), atol=1e-6)


def test_dropout_drops_its_share_and_keeps_the_mean():
    weights = np.ones((200, 500), np.float32)
    draw = jax.jit(lambda seed, weights, block: Dropout(jax.random.key(seed), 0.3)(weights, block))
    dropped, others = (np.asarray(draw(0, weights, block)) for block in (1, 2))
    assert abs(float((dropped == 0).mean()) - 0.3) < 0.01
    np.testing.assert_allclose(dropped[dropped > 0], 1 / 0.7, rtol=1e-6)
    assert (others != dropped).any()
    # The draws depend on the key and the block. A rate of zero gives the output without dropout.
    q, k, v = make_inputs(0, 3, 16)
    mask, params = np.ones(16, bool), make_params(0)
    np.testing.assert_array_equal(
        attend(q, k, v, mask, params, Dropout(jax.random.key(1), 0.0)), attend(q, k, v, mask, params)
    )


def test_bfloat16_stays_near_float32():
    q, k, v = make_inputs(1, 3, 40)
    params, mask = make_params(1), np.ones(40, bool)
    half = [x.astype(jnp.bfloat16) for x in (k, v)]

    def widened(keys, values):
        return Block(keys.astype(jnp.float32), values.astype(jnp.float32))

    out = attend(q, *half, mask, params, block_size=16, block=widened)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, attend(q, k, v, mask, params), atol=0.02)


def test_weights_are_those_that_values_are_summed_by():
    """Padding has weight 0, and summing projected values with the weights gives `set_attention`'s output."""
    params, (queries, keys, values) = make_params(5), make_inputs(5, 3, 9)
    mask = np.arange(9) < 6
    keys[6:] = values[6:] = np.nan
    weights = np.asarray(weights_of(queries, (keys, values), mask, plain, params))
    assert weights.shape == (HEADS, 3, 9) and (weights[..., 6:] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    projected = np.einsum("nc,chd->hnd", values[:6], params.value) + params.value_bias[:, None]
    expected = np.einsum("hkd,hdc->kc", weights[..., :6] @ projected, params.out) + params.out_bias
    np.testing.assert_allclose(expected, attend(queries, keys, values, mask, params), atol=2e-5)


@pytest.mark.parametrize("block_size", [3, 16])
def test_a_face_of_quality_log_2_counts_as_two(block_size):
    """The quality of a padded slot has no effect, even if it is NaN."""
    params, (queries, keys, values) = make_params(6), make_inputs(6, 3, 10)
    mask, quality = np.arange(10) < 7, np.zeros(10, np.float32)
    quality[2], quality[8] = np.log(2), np.nan
    attend_weighed = jax.jit(set_attention, static_argnums=3, static_argnames="block_size")
    memory = keys, values, quality
    seen = attend_weighed(queries, memory, mask, weighed, params, block_size=block_size)
    twice = [np.concatenate([x[:7], x[2:3]]) for x in (keys, values)]
    np.testing.assert_allclose(seen, textbook(queries, *twice, params), atol=2e-5)
    weights = np.asarray(weights_of(queries, memory, mask, weighed, params))
    alike = np.asarray(weights_of(queries, (keys, values), mask, plain, params))
    odds = alike * np.where(np.arange(10) == 2, 2, 1)
    np.testing.assert_allclose(weights, odds / odds.sum(-1, keepdims=True), atol=1e-6)


def test_a_face_that_counts_as_several_has_the_weight_of_its_copies():
    params, (queries, keys, values) = make_params(7), make_inputs(7, 3, 6)
    times = np.float32([1, 3, 0, 2, 1, 0])
    copies = np.repeat(np.arange(6), times.astype(int))
    weights = weights_of(queries, (keys, values), times, plain, params)
    each = np.asarray(weights_of(queries, (keys[copies], values[copies]), np.ones(7, bool), plain, params))
    np.testing.assert_allclose(weights, each @ (copies[:, None] == np.arange(6)).astype("f"), atol=1e-6)
    assert not np.any(weights_of(queries, (keys, values), np.zeros(6, "f"), plain, params))


@pytest.mark.parametrize("block_size", [None, 7])
def test_sets_that_share_slots_are_told_apart(block_size):
    """A pack of three sets has the values and gradients of the sets alone.

    One set holds an inf, which must spoil only that set; free slots hold NaN.
    """
    rng = np.random.default_rng(5)
    owner = rng.integers(0, 4, 20)  # 3 marks a free slot
    mask = owner == np.arange(3)[:, None]
    queries = rng.standard_normal((3, 2, DIM)).astype(np.float32)
    keys, values = rng.standard_normal((2, 20, DIM)).astype(np.float32)
    keys[owner == 3] = np.nan
    values[np.argmax(owner == 2)] = np.inf
    params = make_params(0)

    def packed(queries):
        return attend(queries, keys[None], values[None], mask, params, block_size=block_size)

    def both(function, queries):
        def loss(queries):
            found = function(queries)
            return jnp.sum(jnp.sin(found[:2])), found

        slope, found = jax.device_get(jax.jit(jax.grad(loss, has_aux=True))(queries))
        return found, slope

    faces = [np.broadcast_to(array[owner < 2], (2, (owner < 2).sum(), DIM)) for array in (keys, values)]

    def apart(queries):
        return attend(queries[:2], *faces, mask[:2, owner < 2], params)

    (got, slope), (expected, other) = both(packed, queries), both(apart, queries)
    np.testing.assert_allclose(got[:2], expected, atol=1e-5)
    np.testing.assert_allclose(slope[:2], other[:2], atol=1e-5)
    assert np.isnan(got[2]).all()
