"""The textbook form for few keys, against the absorbed one, and when a TPU gets it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fpsset.ops import direct_attention as forms
from fpsset.ops.attention import Dropout, set_attention
from fpsset.ops.direct_attention import attention_for_platform, direct_attention
from tests.ops.attention import DIM, HEADS, make_params, plain, weighed


@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("batch, slots", [(1, 5), (6, 7), (32, 8)])
def test_the_direct_form_is_the_same(batch, slots, drops):
    rng = np.random.default_rng(batch)
    params = make_params(3)
    queries = rng.standard_normal((batch, 3, DIM)).astype("f")
    keys, values = (rng.standard_normal((batch, slots, DIM)).astype("f") for _ in range(2))
    quality = rng.standard_normal((batch, slots)).astype("f")
    weight = rng.integers(0, 3, (batch, slots)).astype("f")
    weight[0] = 0  # a set without faces
    keys[weight == 0] = values[weight == 0] = np.nan
    dropout = Dropout(jax.random.key(1), 0.3) if drops else None

    def results(form):
        def outputs(queries, params):
            return form(queries, (keys, values, quality), weight, weighed, params, dropout)

        def loss(queries, params):
            found = outputs(queries, params)
            return jnp.sum(jnp.sin(found)), found

        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(queries, params)

    one, other = results(set_attention), results(direct_attention)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4), one, other)


@pytest.mark.parametrize(
    "queries, slots, form",
    [(3, 11, direct_attention), (3, 12, set_attention), (5, 16, direct_attention), (5, 17, set_attention)],
)
def test_a_tpu_gets_the_direct_form_for_sets_of_fewer_slots_than_rows_and_of_16_at_most(queries, slots, form):
    shapes = [jax.ShapeDtypeStruct((2, n, DIM), jnp.float32) for n in (queries, slots)]
    mask = jax.ShapeDtypeStruct((2, slots), bool)

    def products(form):
        attend_to = jax.jit(lambda q, x, mask: form(q, (x, x), mask, plain, make_params(0)))
        program = jax.export.export(attend_to, platforms=["tpu"])(*shapes, mask)
        return program.mlir_module().count("stablehlo.dot_general")

    direct, absorbed, chosen = map(products, (direct_attention, set_attention, attention_for_platform))
    assert chosen == (direct if form is direct_attention else absorbed)
    assert direct != absorbed


def test_in_the_direct_form_a_face_that_is_no_number_spoils_its_own_set_alone():
    rng = np.random.default_rng(0)
    params = make_params(3)
    queries, faces = (rng.standard_normal((4, n, DIM)).astype("f") for n in (3, 8))
    faces[1, 2, 5] = np.nan
    out, expected = (
        np.asarray(
            jax.jit(form, static_argnums=3)(queries, (faces, faces), np.ones((4, 8), bool), plain, params)
        )
        for form in (direct_attention, set_attention)
    )
    assert np.isnan(out[1]).all()
    others = np.array([0, 2, 3])
    np.testing.assert_allclose(out[others], expected[others], atol=1e-5)


def test_heads_in_one_axis_are_heads_in_an_axis_of_their_own():
    rng = np.random.default_rng(0)
    query, key = (rng.standard_normal((2, 3, DIM)).astype("f") for _ in range(2))
    options = HEADS, jnp.float32

    @jax.jit
    def both(query, key):
        logits = forms._logits_of_heads(query, key, *options)
        mixed = [form(logits, key, *options) for form in (forms._mix_heads, forms._mix_channels)]
        return (logits, forms._logits_of_channels(query, key, *options)), mixed

    (logits, other_logits), (mixed, other_mixed) = both(query, key)
    np.testing.assert_allclose(logits, other_logits, atol=1e-5)
    np.testing.assert_allclose(mixed, other_mixed, atol=1e-4)
