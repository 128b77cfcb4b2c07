"""FaceCoresetNet and the pooling baselines: masks, order, packs, batches and randomness."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsset
from fpsset.models.pooling import baselines
from tests.sets import coreset_sizes, kinds, make_set, seeds, sizes, with_padding, with_quality

DIM = 16
MODELS = ("fpsset", "quality", "mean", "norm_weighted", "media_mean", "fps")


@functools.cache
def make_model(name, k=3):
    if name == "fpsset":
        return fpsset.FaceCoresetNet(coreset_size=k, num_heads=4)
    if name == "quality":
        return fpsset.FaceCoresetNet(coreset_size=k, num_heads=4, quality=True, by_media=True)
    return baselines(k)[name]


@functools.cache
def make_variables(model):
    variables = jax.jit(model.init)(jax.random.key(1), fpsset.FaceSet(*_full(*make_set(0, 4, dim=DIM))))
    if getattr(model, "quality", False):
        variables = {"params": with_quality(variables["params"])}
    return variables


@functools.cache
def apply_of(model):
    return jax.jit(model.apply)


def _full(embeddings, norms):
    return embeddings, norms, np.ones(len(norms), bool)


def _media(seed, size):
    return np.random.default_rng(seed).integers(0, size, size)


def _frames(media):
    return np.unique_counts(media).counts[np.unique_inverse(media).inverse_indices].astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
@given(seed=seeds, size=sizes, k=coreset_sizes, kind=kinds)
@settings(max_examples=8)
def test_masked_equals_removed(name, seed, size, k, kind):
    embeddings, norms = make_set(seed, size, kind, DIM)
    padded, padded_norms, mask, places = with_padding(embeddings, norms, seed, 64)
    frames, padded_frames = _frames(_media(seed, size)), np.full(64, np.nan, np.float32)
    padded_frames[places] = frames
    model = make_model(name, k)
    variables = make_variables(model)
    apply = apply_of(model)
    removed = apply(variables, fpsset.FaceSet(*_full(embeddings, norms), frames))
    masked = apply(variables, fpsset.FaceSet(padded, padded_norms, mask, padded_frames))
    np.testing.assert_allclose(masked.descriptor, removed.descriptor, atol=1e-5)
    np.testing.assert_allclose(masked.norm, removed.norm, rtol=1e-4, atol=1e-5)
    length = np.linalg.norm(masked.descriptor)
    assert length == pytest.approx(1, abs=1e-5) or (length == 0 and not norms.any())
    if name in ("fpsset", "quality"):
        picks = np.asarray(removed.coreset_indices)
        assert masked.coreset_indices.tolist() == np.where(picks >= 0, places[picks], -1).tolist()
        np.testing.assert_array_equal(masked.coreset_mask, np.arange(k) < size)
        picked = (norms[:, None] * embeddings)[picks] * (picks >= 0)[:, None]
        np.testing.assert_allclose(masked.core_features, picked, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@given(seed=seeds, size=sizes)
@settings(max_examples=6)
def test_order_does_not_matter(name, seed, size):
    embeddings, norms = make_set(seed, size, dim=DIM)
    frames, order = _frames(_media(seed, size)), np.random.default_rng(seed).permutation(size)
    model = make_model(name)
    variables = make_variables(model)
    apply = apply_of(model)
    straight = apply(variables, fpsset.FaceSet(*_full(embeddings, norms), frames))
    shuffled = apply(variables, fpsset.FaceSet(*_full(embeddings[order], norms[order]), frames[order]))
    np.testing.assert_allclose(shuffled.descriptor, straight.descriptor, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@given(seed=seeds)
@settings(max_examples=4)
def test_a_pack_is_its_sets(name, seed):
    """Packing does not change the descriptors.

    Free slots between the faces of three sets hold NaN; the last pack has one set with faces and two without.
    """
    padded, norms, mask, _ = with_padding(*make_set(seed, 50, dim=DIM), seed, 60)
    owner = np.random.default_rng(seed).integers(0, 3, 60).reshape(2, 30) * [[1], [0]]
    padded, norms, mask = padded.reshape(2, 1, 30, DIM), norms.reshape(2, 1, 30), mask.reshape(2, 1, 30)
    masks = mask & (owner[:, None] == np.arange(3)[:, None])
    frames = np.where(mask, 2.0, np.nan).astype(np.float32)
    model = make_model(name)
    variables = make_variables(model)
    packed = apply_of(model)(variables, fpsset.FaceSet(padded, norms, masks, frames))
    rows = [np.broadcast_to(array, (2, 3, *array.shape[2:])) for array in (padded, norms, frames)]
    apart = apply_of(model)(variables, fpsset.FaceSet(*rows[:2], masks, rows[2]))
    np.testing.assert_allclose(packed.descriptor, apart.descriptor, atol=1e-5)
    np.testing.assert_allclose(packed.norm, apart.norm, rtol=1e-4)
    assert np.isfinite(packed.norm[0]).all()
    if packed.coreset_indices is not None:
        np.testing.assert_array_equal(packed.coreset_indices, apart.coreset_indices)


@pytest.mark.parametrize("name", MODELS)
def test_vmap_equals_batch_equals_loop(name):
    sets = [with_padding(*make_set(i, 1 + 2 * i, dim=DIM), i, 12)[:3] for i in range(6)]
    batch = fpsset.FaceSet(
        *map(np.stack, zip(*sets, strict=True)), np.stack([_frames(_media(i, 12)) for i in range(6)])
    )
    model = make_model(name)
    variables = make_variables(model)
    apply = apply_of(model)
    together = apply(variables, batch)
    mapped = jax.vmap(functools.partial(apply, variables))(batch)
    folded = apply(variables, jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), batch))
    for i in range(6):
        alone = apply(variables, jax.tree.map(lambda x, i=i: x[i], batch))
        np.testing.assert_allclose(together.descriptor[i], alone.descriptor, atol=1e-5)
        np.testing.assert_allclose(mapped.descriptor[i], alone.descriptor, atol=1e-5)
        np.testing.assert_allclose(folded.descriptor[i // 3, i % 3], alone.descriptor, atol=1e-5)


@given(seed=seeds, size=st.sampled_from((3, 5)))
@settings(max_examples=6)
def test_a_frame_that_repeats_weighs_as_one(seed, size):
    """With media given; without media, each repetition counts."""
    embeddings, norms = make_set(seed, size, dim=DIM)
    again = np.random.default_rng(seed).integers(0, size, 33 - size)
    media = np.concatenate([np.arange(size), again])
    model = make_model("quality")
    once, with_media, without_media = (
        apply_of(model)(make_variables(model), sets)
        for sets in (
            fpsset.FaceSet(*_full(embeddings, norms)),
            fpsset.FaceSet(*_full(embeddings[media], norms[media]), _frames(media)),
            fpsset.FaceSet(*_full(embeddings[media], norms[media])),
        )
    )
    np.testing.assert_allclose(with_media.descriptor, once.descriptor, atol=1e-5)
    assert np.abs(without_media.descriptor - once.descriptor).max() > 5e-5


@functools.cache
def training_gradients(model):
    def loss(variables, embeddings, norms, mask, frames, key):
        rngs = {"gumbel": key, "dropout": jax.random.fold_in(key, 1)}
        out = model.apply(variables, fpsset.FaceSet(embeddings, norms, mask, frames), train=True, rngs=rngs)
        return (out.descriptor * jnp.arange(DIM)).sum() + out.norm

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))


@given(seed=seeds, size=sizes, k=st.sampled_from((1, 3)), kind=kinds)
@settings(max_examples=12)
def test_training_takes_nothing_from_padding(seed, size, k, kind):
    padded, norms, mask, _ = with_padding(*make_set(seed, size, kind, DIM), seed, 64)
    model, frames = make_model("quality", k), np.where(mask, 2, np.nan).astype(np.float32)
    grads = training_gradients(model)(
        make_variables(model), padded, norms, mask, frames, jax.random.key(seed)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert not np.any(grads[1][~mask]) and not np.any(grads[2][~mask])


@pytest.mark.parametrize("name", MODELS)
def test_a_set_without_faces_gives_zero(name):
    nothing = fpsset.FaceSet(
        np.full((2, 4, DIM), np.nan, np.float32), np.full((2, 4), np.nan, np.float32), np.zeros((2, 4), bool)
    )
    model = make_model(name)
    out = apply_of(model)(make_variables(model), nothing)
    assert not np.any(out.descriptor) and not np.any(out.norm)


def test_training_draws_from_the_streams_it_is_given():
    embeddings, norms = make_set(0, 20, dim=DIM)
    face_set, model = fpsset.FaceSet(*_full(embeddings, norms)), make_model("fpsset")
    variables = make_variables(model)

    @jax.jit
    def run(gumbel, dropout):
        rngs = {"gumbel": jax.random.key(gumbel), "dropout": jax.random.key(dropout)}
        return model.apply(variables, face_set, train=True, rngs=rngs)

    first = run(0, 0)
    np.testing.assert_array_equal(first.descriptor, run(0, 0).descriptor)
    assert any(run(i, 0).coreset_indices.tolist() != first.coreset_indices.tolist() for i in range(1, 6))
    other = run(0, 1)
    assert other.coreset_indices.tolist() == first.coreset_indices.tolist()
    assert np.abs(other.descriptor - first.descriptor).max() > 1e-3


def test_no_key_is_used_twice():
    embeddings, norms = make_set(0, 9, dim=DIM)
    model = make_model("fpsset")
    with jax.debug_key_reuse(True):
        model.apply(
            make_variables(model),
            fpsset.FaceSet(*_full(embeddings, norms)),
            train=True,
            rngs={"gumbel": jax.random.key(0), "dropout": jax.random.key(1)},
        )


@given(seed=seeds, size=sizes)
@settings(max_examples=10)
def test_pooling_formulas(seed, size):
    embeddings, norms = make_set(seed, size, dim=DIM)
    media = _media(seed, size)
    features = norms[:, None] * embeddings
    expected = {
        "mean": embeddings.mean(0),
        "norm_weighted": features.mean(0),
        "media_mean": np.mean([features[media == m].mean(0) for m in np.unique(media)], axis=0),
    }
    picks = np.asarray(fpsset.farthest_point_sampling(*_full(embeddings, norms), size=3, gamma=0.35))
    expected["fps"] = features[picks[picks >= 0]].mean(0)
    for name, vector in expected.items():
        face_set = fpsset.FaceSet(*_full(embeddings, norms), _frames(media))
        out = apply_of(make_model(name))({}, face_set)
        np.testing.assert_allclose(out.norm, np.linalg.norm(vector), rtol=1e-4)
        np.testing.assert_allclose(out.descriptor, vector / np.linalg.norm(vector), atol=1e-5)


def test_rejects_widths_that_do_not_split_over_the_heads():
    with pytest.raises(ValueError, match="do not split"):
        fpsset.FaceCoresetNet(num_heads=5).init(
            jax.random.key(0), fpsset.FaceSet(*_full(*make_set(0, 4, dim=DIM)))
        )


@functools.cache
def wide_variables(net):
    return jax.jit(net.init)(jax.random.key(0), fpsset.FaceSet(*_full(*make_set(0, 4, dim=512))))


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 65), (2, 4)])
def test_parameters_may_be_constants_of_the_program(shape):
    """Compilers fold constants and drop axes of length 1, and have had bugs where they do both."""
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((*shape, 512)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
    sets = fpsset.FaceSet(embeddings, rng.uniform(5, 30, shape).astype(np.float32), np.ones(shape, bool))
    net = fpsset.FaceCoresetNet()
    variables = wide_variables(net)
    given = jax.jit(net.apply)(variables, sets)
    folded = jax.jit(lambda sets: net.apply(variables, sets))(sets)
    np.testing.assert_array_equal(folded.coreset_indices, given.coreset_indices)
    np.testing.assert_allclose(folded.descriptor, given.descriptor, atol=1e-6)
