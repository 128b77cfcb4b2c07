"""Set models and pooling baselines: masks, order, packs, batches, dtypes and randomness."""

import functools
import itertools

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
    faces_and_picks,
    kinds,
    make_set,
    random_coreset_net,
    random_posterior,
    random_whitening,
    seeds,
    sizes,
    tied_kinds,
    with_padding,
)

DIM = 16
UNKNOWN, IGNORING = " without media", " without norms"
FITTED = ("posterior", "whitened")
MODELS = (
    *("fpsset", "quality", "mean", "norm_weighted", "media_mean", "fps"),
    *(name + known for name in FITTED for known in ("", UNKNOWN)),
)
# Few shapes, because each is compiled for each model. Padded sets have as many slots as the largest set.
SLOTS = 64
three_picks = st.sampled_from((1, 33, SLOTS))  # faces, of which a model picks three


@functools.cache
def make_model(name, k=3):
    if name == "fpsset":
        return fpsset.FaceCoresetNet(coreset_size=k, num_heads=2)
    if name == "quality":
        return fpsset.FaceCoresetNet(coreset_size=k, num_heads=2, quality=True, by_media=True)
    if name.startswith("posterior"):
        return PosteriorPooling(k, ignores_norms=IGNORING in name)
    if name.startswith("whitened"):
        return WhitenedMedia(k, ignores_norms=IGNORING in name)
    if name == "plain":
        return PlainCoreset(k)
    return baselines(k)[name]


@functools.cache
def make_variables(name):
    """Those of a model by any number of picks."""
    model = make_model(name)
    if isinstance(model, PosteriorPooling):
        return {"params": random_posterior(DIM)}
    if isinstance(model, WhitenedMedia):
        return {"params": random_whitening(DIM)}
    if isinstance(model, fpsset.FaceCoresetNet):
        return {"params": random_coreset_net(model, DIM)}
    return {"params": {"gamma": np.float32(model.gamma_init)}} if name == "plain" else {}


@functools.cache
def apply_of(model):
    return jax.jit(model.apply)


def run(name, sets, k=3):
    """The descriptors of sets by a model, in NumPy."""
    return jax.device_get(apply_of(make_model(name, k))(make_variables(name), sets))


def _full(embeddings, norms):
    return embeddings, norms, np.ones(len(norms), bool)


def _sets(name, embeddings, norms, mask, frames, media):
    """Sets for a model: with media in all of their forms, unless its name says without."""
    if name.endswith(UNKNOWN):
        return fpsset.FaceSet(embeddings, norms, mask)
    return fpsset.FaceSet(embeddings, norms, mask, frames, media=np.asarray(media, np.int32))


def _padded(name, embeddings, norms, media, seed=0):
    """(A set scattered over SLOTS slots, of which the others hold no numbers; the slots of its faces)."""
    padded, padded_norms, mask, places = with_padding(embeddings, norms, seed, SLOTS)
    frames, codes = np.full(SLOTS, np.nan, np.float32), np.resize([10**9, -(10**9)], SLOTS)
    frames[places], codes[places] = _frames(media), media
    return _sets(name, padded, padded_norms, mask, frames, codes), places


def _media(seed, size):
    return np.random.default_rng(seed).integers(0, size, size)


def _frames(media):
    return np.unique_counts(media).counts[np.unique_inverse(media).inverse_indices].astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
@given(seed=seeds, size_and_k=faces_and_picks, kind=kinds)
@settings(max_examples=12)
def test_masked_equals_removed(name, seed, size_and_k, kind):
    size, k = size_and_k
    embeddings, norms = make_set(seed, size, kind, DIM)
    media = _media(seed, size)
    padded, places = _padded(name, embeddings, norms, media, seed)
    removed = run(name, _sets(name, *_full(embeddings, norms), _frames(media), media), k)
    masked = run(name, padded, k)
    np.testing.assert_allclose(masked.descriptor, removed.descriptor, atol=1e-5)
    np.testing.assert_allclose(masked.norm, removed.norm, rtol=1e-4, atol=1e-5)
    length = np.linalg.norm(masked.descriptor)
    assert length == pytest.approx(1, abs=1e-5) or (length == 0 and not norms.any())
    if removed.coreset_indices is not None:
        picks = removed.coreset_indices
        assert masked.coreset_indices.tolist() == np.where(picks >= 0, places[picks], -1).tolist()
        np.testing.assert_array_equal(masked.coreset_mask, np.arange(k) < size)
        picked = (norms[:, None] * embeddings)[picks] * (picks >= 0)[:, None]
        np.testing.assert_allclose(masked.core_features, picked, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@given(seed=seeds, size=three_picks)
@settings(max_examples=6)
def test_order_does_not_matter(name, seed, size):
    embeddings, norms = make_set(seed, size, dim=DIM)
    media, order = _media(seed, size), np.random.default_rng(seed).permutation(size)
    straight, shuffled = (
        run(name, _sets(name, *_full(embeddings[by], norms[by]), _frames(media)[by], media[by]))
        for by in (np.arange(size), order)
    )
    np.testing.assert_allclose(shuffled.descriptor, straight.descriptor, atol=1e-5)


@pytest.mark.parametrize(
    "name", [*MODELS, "plain", *(f"{model}{IGNORING}{known}" for model in FITTED for known in ("", UNKNOWN))]
)
@pytest.mark.parametrize("packed", [False, True], ids=["a set", "packed"])
@given(seed=seeds, kind=tied_kinds)
@settings(max_examples=8)
def test_order_does_not_matter_where_scores_tie(name, packed, seed, kind):
    """Alone, or as the first of three sets that share their slots, the last of which is empty."""
    embeddings, norms = make_set(seed, 20, kind, DIM)
    media = _media(seed, 20)
    orders = np.arange(20), np.random.default_rng(seed).permutation(20)
    sets = [_padded(name, embeddings[by], norms[by], media[by], seed)[0] for by in orders]
    if packed:
        packs = jax.tree.map(lambda *arrays: np.nan_to_num(np.stack(arrays), nan=1.0)[:, None], *sets)
        own = packs.mask
        packs = packs.replace(mask=np.concatenate([own, ~own, np.zeros_like(own)], axis=1))
        if packs.media is not None:
            packs = packs.replace(media=np.where(own, packs.media, np.arange(SLOTS, dtype=np.int32)))
        out = run(name, packs)
        straight, shuffled = (jax.tree.map(lambda array, i=i: array[i, 0], out) for i in range(2))
    else:
        straight, shuffled = (run(name, one) for one in sets)
    np.testing.assert_allclose(shuffled.descriptor, straight.descriptor, atol=1e-5)
    np.testing.assert_allclose(shuffled.norm, straight.norm, rtol=1e-4, atol=1e-5)
    if straight.core_features is not None:
        np.testing.assert_array_equal(shuffled.core_features, straight.core_features)


@pytest.mark.parametrize("name", MODELS)
@given(seed=seeds)
@settings(max_examples=4)
def test_a_pack_is_its_sets(name, seed):
    """Packing does not change the descriptors.

    Free slots between the faces of three sets hold NaN; the last pack has one set with faces and two without.
    """
    padded, norms, mask, _ = with_padding(*make_set(seed, 100, dim=DIM), seed, 2 * SLOTS)
    owner = np.random.default_rng(seed).integers(0, 3, 2 * SLOTS).reshape(2, SLOTS) * [[1], [0]]
    padded = padded.reshape(2, 1, SLOTS, DIM)
    norms, mask = norms.reshape(2, 1, SLOTS), mask.reshape(2, 1, SLOTS)
    masks = mask & (owner[:, None] == np.arange(3)[:, None])
    frames = np.where(mask, 2.0, np.nan).astype(np.float32)
    media = np.where(mask, np.random.default_rng(seed).integers(0, SLOTS, mask.shape), 10**9)
    packed = run(name, _sets(name, padded, norms, masks, frames, media))
    rows = [np.broadcast_to(array, (2, 3, *array.shape[2:])) for array in (padded, norms, frames, media)]
    apart = run(name, _sets(name, *rows[:2], masks, *rows[2:]))
    np.testing.assert_allclose(packed.descriptor, apart.descriptor, atol=1e-5)
    np.testing.assert_allclose(packed.norm, apart.norm, rtol=1e-4)
    assert np.isfinite(packed.norm[0]).all()
    if packed.coreset_indices is not None:
        np.testing.assert_array_equal(packed.coreset_indices, apart.coreset_indices)


@pytest.mark.parametrize("name", MODELS)
def test_vmap_equals_batch_equals_loop(name):
    """A batch of two by three sets, and two batches of three."""
    sets = [_padded(name, *make_set(i, 1 + 2 * i, dim=DIM), _media(i, 1 + 2 * i), i)[0] for i in range(6)]
    batch = jax.tree.map(lambda *arrays: np.stack(arrays).reshape(2, 3, *arrays[0].shape), *sets)
    together = run(name, batch)
    mapped = jax.device_get(jax.vmap(apply_of(make_model(name)), (None, 0))(make_variables(name), batch))
    for i, one in enumerate(sets):
        alone = run(name, one)
        np.testing.assert_allclose(together.descriptor[i // 3, i % 3], alone.descriptor, atol=1e-5)
        np.testing.assert_allclose(mapped.descriptor[i // 3, i % 3], alone.descriptor, atol=1e-5)


@given(seed=seeds, size=st.sampled_from((3, 5)))
@settings(max_examples=6)
def test_a_frame_that_repeats_weighs_as_one(seed, size):
    """With media given; without media, each repetition counts."""
    embeddings, norms = make_set(seed, size, dim=DIM)
    media = np.concatenate([np.arange(size), np.random.default_rng(seed).integers(0, size, 33 - size)])
    once, with_media, without_media = (
        run("quality", _padded(known, embeddings[m], norms[m], m)[0])
        for known, m in ((UNKNOWN, np.arange(size)), ("", media), (UNKNOWN, media))
    )
    np.testing.assert_allclose(with_media.descriptor, once.descriptor, atol=1e-5)
    assert np.abs(without_media.descriptor - once.descriptor).max() > 5e-5


@pytest.mark.parametrize("name", FITTED)
@given(seed=seeds, size=st.sampled_from((3, 5)))
@settings(max_examples=6)
def test_frames_that_repeat_in_their_medium_change_nothing(name, seed, size):
    embeddings, norms = make_set(seed, size, dim=DIM)
    media = np.concatenate([np.arange(size), np.random.default_rng(seed).integers(0, size, 33 - size)])
    once, again = (
        run(name, _padded(name, embeddings[m], norms[m], m, seed)[0].replace(media_size=None))
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
    slots = np.arange(SLOTS) < len(rows)
    rows = np.pad(rows, (0, SLOTS - len(rows)))
    repeated = _sets(name, embeddings[rows], norms[rows], slots, None, media[rows])
    counted = _sets(name, *_full(embeddings, norms), None, media)
    counted = counted.replace(multiplicity=counts.astype(np.float32))
    one, other = run(name, repeated), run(name, counted)
    np.testing.assert_allclose(other.descriptor, one.descriptor, atol=1e-5)
    np.testing.assert_allclose(other.norm, one.norm, rtol=1e-4)
    np.testing.assert_allclose(other.core_features, one.core_features, atol=1e-5)


# Primitives that round nothing.
_EXACT = {"broadcast_in_dim", "dynamic_slice", "gather", "max", "reduce_max", "select_n", "slice", "squeeze"}


def _steps(jaxpr):
    """All equations of a jaxpr, those of the jaxprs in it too, which themselves are left out."""
    for equation in jaxpr.eqns:
        inner = [part.jaxpr for part in jax.tree.leaves(equation.params) if hasattr(part, "jaxpr")]
        yield from itertools.chain.from_iterable(map(_steps, inner)) if inner else [equation]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_faces_are_computed_in_float32(name, dtype):
    """What a model does in half precision, before values are widened, rounds nothing but constants."""
    sets, _ = _padded(name, *make_set(3, 20, dim=DIM), _media(3, 20))
    half = sets.replace(embeddings=sets.embeddings.astype(dtype), norms=sets.norms.astype(dtype))
    jaxpr, out = jax.make_jaxpr(make_model(name).apply, return_shape=True)(make_variables(name), half)
    steps = [step for step in _steps(jaxpr.jaxpr) if any(value.aval.dtype == dtype for value in step.outvars)]
    rounding = [step for step in steps if step.primitive.name not in _EXACT]
    assert steps and all(str(step.primitive) == "convert_element_type" for step in rounding), rounding
    assert all(step.outvars[0].aval.shape == () for step in rounding), rounding
    assert not any(leaf.dtype == dtype for leaf in jax.tree.leaves(out))


@pytest.mark.parametrize("name", ["quality", "posterior"])
def test_half_precision_faces_give_what_their_float32_values_give(name):
    sets, _ = _padded(name, *make_set(3, 20, dim=DIM), _media(3, 20))
    half = sets.replace(
        embeddings=sets.embeddings.astype(jnp.bfloat16), norms=sets.norms.astype(jnp.bfloat16)
    )
    faces = {"embeddings": half.embeddings.astype(np.float32), "norms": half.norms.astype(np.float32)}
    half, single = run(name, half), run(name, half.replace(**faces))
    np.testing.assert_allclose(half.descriptor, single.descriptor, atol=1e-5)
    np.testing.assert_allclose(half.norm, single.norm, rtol=1e-4)
    np.testing.assert_array_equal(half.coreset_indices, single.coreset_indices)


@functools.cache
def training_gradients(model):
    def loss(variables, sets, key):
        rngs = {"gumbel": key, "dropout": jax.random.fold_in(key, 1)}
        out = model.apply(variables, sets, train=True, rngs=rngs)
        return (out.descriptor * jnp.arange(DIM)).sum() + out.norm

    def of(variables, faces, sets, seed):
        sets = sets.replace(embeddings=faces[0], norms=faces[1])
        return loss(variables, sets, jax.random.key(seed))

    return jax.jit(jax.grad(of, argnums=(0, 1)))


@pytest.mark.parametrize(
    ("name", "k"),
    [("quality", 3), *((name, 1 if UNKNOWN in name else 3) for name in MODELS if name.startswith(FITTED))],
)
@given(seed=seeds, size=sizes, kind=kinds)
@settings(max_examples=12)
def test_training_takes_nothing_from_padding(name, k, seed, size, kind):
    sets, _ = _padded(name, *make_set(seed, size, kind, DIM), _media(seed, size), seed)
    faces = sets.embeddings, sets.norms
    grads = jax.device_get(training_gradients(make_model(name, k))(make_variables(name), faces, sets, seed))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    assert not np.any(grads[1][0][~sets.mask]) and not np.any(grads[1][1][~sets.mask])


@pytest.mark.parametrize("name", MODELS)
def test_a_set_without_faces_gives_zero(name):
    nothing = np.full((2, 3, SLOTS, DIM + 2), np.nan, np.float32)
    faces, norms, frames = nothing[..., :DIM], nothing[..., DIM], nothing[..., DIM + 1]
    out = run(
        name, _sets(name, faces, norms, np.zeros(norms.shape, bool), frames, np.full(norms.shape, 10**9))
    )
    assert not np.any(out.descriptor) and not np.any(out.norm)


@given(seed=seeds, size=st.integers(1, SLOTS))
@settings(max_examples=10)
def test_pooling_formulas(seed, size):
    embeddings, norms = make_set(seed, size, dim=DIM)
    media = _media(seed, size)
    features = norms[:, None] * embeddings
    sets, places = _padded("", embeddings, norms, media, seed)
    picks = run("plain", sets).coreset_indices
    expected = {
        "mean": embeddings.mean(0),
        "norm_weighted": features.mean(0),
        "media_mean": np.mean([features[media == m].mean(0) for m in np.unique(media)], axis=0),
        "fps": features[np.isin(places, picks)].mean(0),
    }
    for name, vector in expected.items():
        out = run(name, sets)
        np.testing.assert_allclose(out.norm, np.linalg.norm(vector), rtol=1e-4)
        np.testing.assert_allclose(out.descriptor, vector / np.linalg.norm(vector), atol=1e-5)
