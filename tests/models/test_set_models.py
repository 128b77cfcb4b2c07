"""Set models and pooling baselines: masks, order, packs, batches, dtypes and randomness."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsset
from fpsset.models.pooling import PlainCoreset, WhitenedMedia, baselines
from fpsset.models.posterior import PosteriorPooling
from tests.sets import (
    coreset_sizes,
    kinds,
    make_set,
    random_posterior,
    random_whitening,
    seeds,
    sizes,
    tied_kinds,
    with_padding,
    with_quality,
)

DIM = 16
UNKNOWN, IGNORING = " without media", " without norms"
FITTED = ("posterior", "whitened")
MODELS = (
    *("fpsset", "quality", "mean", "norm_weighted", "media_mean", "fps"),
    *(name + known for name in FITTED for known in ("", UNKNOWN)),
)


@functools.cache
def make_model(name, k=3):
    if name == "fpsset":
        return fpsset.FaceCoresetNet(coreset_size=k, num_heads=4)
    if name == "quality":
        return fpsset.FaceCoresetNet(coreset_size=k, num_heads=4, quality=True, by_media=True)
    if name.startswith("posterior"):
        return PosteriorPooling(k, ignores_norms=IGNORING in name)
    if name.startswith("whitened"):
        return WhitenedMedia(k, ignores_norms=IGNORING in name)
    if name == "plain":
        return PlainCoreset(k)
    return baselines(k)[name]


@functools.cache
def make_variables(model):
    if isinstance(model, PosteriorPooling):
        return {"params": random_posterior(DIM)}
    if isinstance(model, WhitenedMedia):
        return {"params": random_whitening(DIM)}
    variables = jax.jit(model.init)(jax.random.key(1), fpsset.FaceSet(*_full(*make_set(0, 4, dim=DIM))))
    if getattr(model, "quality", False):
        variables = {"params": with_quality(variables["params"])}
    return variables


@functools.cache
def apply_of(model):
    return jax.jit(model.apply)


def _full(embeddings, norms):
    return embeddings, norms, np.ones(len(norms), bool)


def _sets(name, embeddings, norms, mask, frames, media):
    """Sets for a model: with media in all of their forms, unless its name says without."""
    if name.endswith(UNKNOWN):
        return fpsset.FaceSet(embeddings, norms, mask)
    return fpsset.FaceSet(embeddings, norms, mask, frames, media=np.asarray(media, np.int32))


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
    media, padded_media = _media(seed, size), np.full(64, -(10**9))
    frames, padded_frames = _frames(media), np.full(64, np.nan, np.float32)
    padded_frames[places], padded_media[places] = frames, media
    model = make_model(name, k)
    variables = make_variables(model)
    apply = apply_of(model)
    removed = apply(variables, _sets(name, *_full(embeddings, norms), frames, media))
    masked = apply(variables, _sets(name, padded, padded_norms, mask, padded_frames, padded_media))
    np.testing.assert_allclose(masked.descriptor, removed.descriptor, atol=1e-5)
    np.testing.assert_allclose(masked.norm, removed.norm, rtol=1e-4, atol=1e-5)
    length = np.linalg.norm(masked.descriptor)
    assert length == pytest.approx(1, abs=1e-5) or (length == 0 and not norms.any())
    if removed.coreset_indices is not None:
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
    media, order = _media(seed, size), np.random.default_rng(seed).permutation(size)
    frames = _frames(media)
    model = make_model(name)
    variables = make_variables(model)
    apply = apply_of(model)
    straight = apply(variables, _sets(name, *_full(embeddings, norms), frames, media))
    shuffled = apply(
        variables, _sets(name, *_full(embeddings[order], norms[order]), frames[order], media[order])
    )
    np.testing.assert_allclose(shuffled.descriptor, straight.descriptor, atol=1e-5)


@pytest.mark.parametrize(
    "name", [*MODELS, "plain", *(f"{model}{IGNORING}{known}" for model in FITTED for known in ("", UNKNOWN))]
)
@pytest.mark.parametrize("packed", [False, True], ids=["a set", "packed"])
@given(seed=seeds, kind=tied_kinds)
@settings(max_examples=8)
def test_order_does_not_matter_where_scores_tie(name, packed, seed, kind):
    """Alone, or as the first of two sets that share their slots."""
    size, slots = 20, 32
    embeddings, norms = make_set(seed, size, kind, DIM)
    media, order = _media(seed, size), np.random.default_rng(seed).permutation(size)
    model = make_model(name)
    variables = make_variables(model)

    def run(order):
        faces = with_padding(embeddings[order], norms[order], seed, slots)
        padded, padded_norms, mask, places = faces
        frames, codes = np.full(slots, np.nan, np.float32), np.full(slots, 10**9)
        frames[places], codes[places] = _frames(media)[order], media[order]
        if packed:
            others = ~mask
            padded, padded_norms = np.nan_to_num(padded, nan=1.0), np.nan_to_num(padded_norms, nan=1.0)
            frames, codes = np.nan_to_num(frames, nan=1.0), np.where(others, np.arange(slots), codes)
            padded, padded_norms, frames, codes = (
                array[None, None] for array in (padded, padded_norms, frames, codes)
            )
            mask = np.stack([mask, others])[None]
        out = apply_of(model)(variables, _sets(name, padded, padded_norms, mask, frames, codes))
        out = jax.tree.map(lambda array: array[0, 0], out) if packed else out
        return out.descriptor, out.norm, out.core_features

    straight, shuffled = run(np.arange(size)), run(order)
    np.testing.assert_allclose(shuffled[0], straight[0], atol=1e-5)
    np.testing.assert_allclose(shuffled[1], straight[1], rtol=1e-4, atol=1e-5)
    if straight[2] is not None:
        np.testing.assert_array_equal(shuffled[2], straight[2])


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
    media = np.where(mask, np.random.default_rng(seed).integers(0, 30, mask.shape), 10**9)
    model = make_model(name)
    variables = make_variables(model)
    packed = apply_of(model)(variables, _sets(name, padded, norms, masks, frames, media))
    rows = [np.broadcast_to(array, (2, 3, *array.shape[2:])) for array in (padded, norms, frames, media)]
    apart = apply_of(model)(variables, _sets(name, *rows[:2], masks, *rows[2:]))
    np.testing.assert_allclose(packed.descriptor, apart.descriptor, atol=1e-5)
    np.testing.assert_allclose(packed.norm, apart.norm, rtol=1e-4)
    assert np.isfinite(packed.norm[0]).all()
    if packed.coreset_indices is not None:
        np.testing.assert_array_equal(packed.coreset_indices, apart.coreset_indices)


@pytest.mark.parametrize("name", MODELS)
def test_vmap_equals_batch_equals_loop(name):
    sets = [with_padding(*make_set(i, 1 + 2 * i, dim=DIM), i, 12)[:3] for i in range(6)]
    media = np.stack([_media(i, 12) for i in range(6)])
    batch = _sets(
        name, *map(np.stack, zip(*sets, strict=True)), np.stack([_frames(row) for row in media]), media
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


@pytest.mark.parametrize("name", FITTED)
@given(seed=seeds, size=st.sampled_from((3, 5)))
@settings(max_examples=6)
def test_frames_that_repeat_in_their_medium_change_nothing(name, seed, size):
    embeddings, norms = make_set(seed, size, dim=DIM)
    media = np.concatenate([np.arange(size), np.random.default_rng(seed).integers(0, size, 33 - size)])
    model = make_model(name)
    once, again = (
        apply_of(model)(make_variables(model), _sets(name, *_full(embeddings[m], norms[m]), None, m))
        for m in (np.arange(size), media)
    )
    np.testing.assert_allclose(again.descriptor, once.descriptor, atol=1e-5)
    np.testing.assert_allclose(again.norm, once.norm, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith(FITTED)])
@given(seed=seeds)
@settings(max_examples=6)
def test_multiplicity_is_repetition(name, seed):
    embeddings, norms = make_set(seed, 7, dim=DIM)
    media, counts = _media(seed, 7), np.random.default_rng(seed).integers(1, 9, 7)
    rows = np.repeat(np.arange(7), counts)
    slots = np.arange(64) < len(rows)
    rows = np.pad(rows, (0, 64 - len(rows)))
    model = make_model(name)
    repeated = _sets(name, embeddings[rows], norms[rows], slots, None, media[rows])
    counted = _sets(name, *_full(embeddings, norms), None, media)
    counted = counted.replace(multiplicity=counts.astype(np.float32))
    one, other = (apply_of(model)(make_variables(model), sets) for sets in (repeated, counted))
    np.testing.assert_allclose(other.descriptor, one.descriptor, atol=1e-5)
    np.testing.assert_allclose(other.norm, one.norm, rtol=1e-4)
    np.testing.assert_allclose(other.core_features, one.core_features, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_faces_are_computed_in_float32(name, dtype):
    embeddings, norms = (array.astype(dtype) for array in make_set(3, 20, dim=DIM))
    media = _media(3, 20)
    model = make_model(name)
    half, single = (
        apply_of(model)(make_variables(model), _sets(name, *_full(*faces), _frames(media), media))
        for faces in (
            (embeddings, norms),
            (embeddings.astype(np.float32), norms.astype(np.float32)),
        )
    )
    assert half.descriptor.dtype == half.norm.dtype == np.float32
    np.testing.assert_allclose(half.descriptor, single.descriptor, atol=1e-5)
    np.testing.assert_allclose(half.norm, single.norm, rtol=1e-4)
    if half.coreset_indices is not None:
        np.testing.assert_array_equal(half.coreset_indices, single.coreset_indices)


@functools.cache
def training_gradients(model):
    def loss(variables, sets, key):
        rngs = {"gumbel": key, "dropout": jax.random.fold_in(key, 1)}
        out = model.apply(variables, sets, train=True, rngs=rngs)
        return (out.descriptor * jnp.arange(DIM)).sum() + out.norm

    def of(variables, faces, sets, key):
        return loss(variables, sets.replace(embeddings=faces[0], norms=faces[1]), key)

    return jax.jit(jax.grad(of, argnums=(0, 1)))


@pytest.mark.parametrize("name", ["quality", *(name for name in MODELS if name.startswith(FITTED))])
@given(seed=seeds, size=sizes, k=st.sampled_from((1, 3)), kind=kinds)
@settings(max_examples=12)
def test_training_takes_nothing_from_padding(name, seed, size, k, kind):
    padded, norms, mask, _ = with_padding(*make_set(seed, size, kind, DIM), seed, 64)
    model, frames = make_model(name, k), np.where(mask, 2, np.nan).astype(np.float32)
    media = np.where(mask, _media(seed, 64), 10**9)
    sets = _sets(name, padded, norms, mask, frames, media)
    grads = training_gradients(model)(make_variables(model), (padded, norms), sets, jax.random.key(seed))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert not np.any(grads[1][0][~mask]) and not np.any(grads[1][1][~mask])


@pytest.mark.parametrize("name", MODELS)
def test_a_set_without_faces_gives_zero(name):
    nothing = np.full((2, 4, DIM + 2), np.nan, np.float32)
    faces, norms, frames = nothing[..., :DIM], nothing[..., DIM], nothing[..., DIM + 1]
    nothing = _sets(name, faces, norms, np.zeros((2, 4), bool), frames, np.full((2, 4), 10**9))
    model = make_model(name)
    out = apply_of(model)(make_variables(model), nothing)
    assert not np.any(out.descriptor) and not np.any(out.norm)


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
    sample = jax.jit(functools.partial(fpsset.farthest_point_sampling, size=3, gamma=0.35))
    picks = np.asarray(sample(*_full(embeddings, norms)))
    expected["fps"] = features[picks[picks >= 0]].mean(0)
    for name, vector in expected.items():
        face_set = fpsset.FaceSet(*_full(embeddings, norms), _frames(media))
        out = apply_of(make_model(name))({}, face_set)
        np.testing.assert_allclose(out.norm, np.linalg.norm(vector), rtol=1e-4)
        np.testing.assert_allclose(out.descriptor, vector / np.linalg.norm(vector), atol=1e-5)
