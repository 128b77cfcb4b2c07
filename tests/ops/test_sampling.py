"""Farthest-point sampling against plain loops, and what it promises about masks, order and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsset
from fpsset.ops.metric import norm_weight
from tests.sets import (
    KINDS,
    coreset_sizes,
    faces_and_picks,
    kinds,
    make_set,
    seeds,
    sizes,
    tied_kinds,
    with_padding,
)

GAMMA = 0.35
SLOTS = 64  # of every padded set, so that few programs are compiled

weight_of = jax.jit(norm_weight)
soft_sampling = jax.jit(fpsset.soft_farthest_point_sampling, static_argnames=("size", "straight_through"))
_hard_sampling = jax.jit(fpsset.farthest_point_sampling, static_argnames="size")


def hard_sampling(*faces, size):
    """The picks, in NumPy."""
    return np.asarray(_hard_sampling(*faces, size=size))


def reference(embeddings, norms, size, gamma=GAMMA):
    """The published method as loops; distances are float32, so that ties are the same."""
    weight = np.asarray(weight_of(np.pad(norms, (0, SLOTS - len(norms))), gamma))[: len(norms)]
    score, distance, picks = norms, np.full(len(norms), np.inf, np.float32), []
    for _ in range(min(size, len(norms))):
        left = [i for i in range(len(norms)) if i not in picks]
        picks.append(max(left, key=lambda i: (score[i], -i)))
        cosine = (embeddings * embeddings[picks[-1]]).sum(-1)
        score = distance = np.minimum(distance, weight * (1 - cosine) / 2)
    return picks + [-1] * (size - len(picks)), distance


@given(seeds, faces_and_picks)
def test_picks_what_the_loop_picks(seed, faces_and_picks):
    size, k = faces_and_picks
    embeddings, norms = make_set(seed, size)
    picks = hard_sampling(embeddings, norms, np.ones(size, bool), size=k)  # gamma is GAMMA if not given
    assert picks.dtype == jnp.int32
    assert picks.tolist() == reference(embeddings, norms, k)[0]


@given(seeds, faces_and_picks, kinds)
def test_masked_equals_removed(seed, faces_and_picks, kind):
    size, k = faces_and_picks
    embeddings, norms = make_set(seed, size, kind)
    padded, padded_norms, mask, places = with_padding(embeddings, norms, seed, SLOTS)
    removed = hard_sampling(embeddings, norms, np.ones(size, bool), size=k)
    masked = hard_sampling(padded, padded_norms, mask, size=k)
    assert np.where(removed >= 0, places[removed], -1).tolist() == masked.tolist()


@given(seeds, faces_and_picks, kinds)
def test_never_twice_and_as_many_as_there_are(seed, faces_and_picks, kind):
    size, k = faces_and_picks
    embeddings, norms = make_set(seed, size, kind)
    picks = hard_sampling(embeddings, norms, np.ones(size, bool), size=k)
    valid = picks[picks >= 0]
    assert len(set(valid.tolist())) == len(valid) == min(size, k)
    assert (picks[len(valid) :] == -1).all()


@pytest.mark.parametrize("size", [1, 2, 5, 33, 64])
def test_equal_faces_are_picked_in_order(size):
    embeddings, norms = make_set(3, size, "all_equal", dim=512)
    embeddings, norms = np.resize(embeddings, (SLOTS, 512)), np.resize(norms, SLOTS)
    picks = hard_sampling(embeddings, norms, np.arange(SLOTS) < size, size=4)
    assert picks.tolist() == [i if i < size else -1 for i in range(4)]


@given(seeds, faces_and_picks)
def test_order_does_not_matter(seed, faces_and_picks):
    size, k = faces_and_picks
    embeddings, norms = make_set(seed, size)
    order = np.random.default_rng(seed).permutation(size)
    straight = hard_sampling(embeddings, norms, np.ones(size, bool), size=k)
    shuffled = hard_sampling(embeddings[order], norms[order], np.ones(size, bool), size=k)
    assert np.where(shuffled >= 0, order[shuffled], -1).tolist() == straight.tolist()


@given(seeds, faces_and_picks, tied_kinds)
def test_order_does_not_matter_where_scores_tie(seed, faces_and_picks, kind):
    size, k = faces_and_picks
    embeddings, norms = make_set(seed, size, kind)
    order = np.random.default_rng(seed).permutation(size)
    straight = hard_sampling(embeddings, norms, np.ones(size, bool), size=k)
    shuffled = hard_sampling(embeddings[order], norms[order], np.ones(size, bool), size=k)
    assert (shuffled >= 0).tolist() == (straight >= 0).tolist()
    straight, shuffled = straight[straight >= 0], order[shuffled[shuffled >= 0]]
    np.testing.assert_array_equal(embeddings[shuffled], embeddings[straight])
    np.testing.assert_array_equal(norms[shuffled], norms[straight])


@given(seeds, coreset_sizes)
@settings(max_examples=10)
def test_batch_and_vmap_equal_a_loop(seed, k):
    """A batch of two by three sets, and two batches of three."""
    sets = [
        with_padding(*make_set(seed + i, 1 + (seed + 7 * i) % 12, KINDS[i % 5]), i, SLOTS) for i in range(6)
    ]
    embeddings, norms, mask = (np.stack(arrays) for arrays in list(zip(*sets, strict=True))[:3])
    loop = [hard_sampling(*one, size=k) for one in zip(embeddings, norms, mask, strict=True)]
    batch = [x.reshape(2, 3, *x.shape[1:]) for x in (embeddings, norms, mask)]
    mapped = jax.vmap(functools.partial(_hard_sampling, size=k))(*batch)
    for picks in (hard_sampling(*batch, size=k), mapped):
        np.testing.assert_array_equal(picks.reshape(6, k), np.stack(loop))


def _noise(seed, k, size):
    return np.random.default_rng(seed).gumbel(size=(k, size)).astype(np.float32)


@given(seeds, faces_and_picks, kinds)
def test_soft_masked_equals_removed(seed, faces_and_picks, kind):
    size, k = faces_and_picks
    embeddings, norms = make_set(seed, size, kind)
    padded, padded_norms, mask, places = with_padding(embeddings, norms, seed, SLOTS)
    noise = _noise(seed, k, size)
    padded_noise = np.full((k, SLOTS), np.nan, np.float32)
    padded_noise[:, places] = noise
    removed = np.asarray(soft_sampling(embeddings, norms, np.ones(size, bool), noise, size=k))
    masked = np.asarray(soft_sampling(padded, padded_norms, mask, padded_noise, size=k))
    np.testing.assert_array_equal(masked[:, places], removed)
    assert not masked[:, ~mask].any()
    # As many one-hot rows as there are faces.
    np.testing.assert_array_equal(removed.sum(-1), np.arange(k) < size)
    assert set(np.unique(removed)) <= {0.0, 1.0}


def test_soft_batch_equals_a_loop():
    slots = np.arange(SLOTS)
    sets = [(*make_set(seed, SLOTS), slots < 5 + seed, _noise(seed, 3, SLOTS)) for seed in range(3)]
    rows = soft_sampling(*map(np.stack, zip(*sets, strict=True)), size=3)
    np.testing.assert_array_equal(rows, [soft_sampling(*one, size=3) for one in sets])


@functools.partial(jax.jit, static_argnames=("size", "options"))
@functools.partial(jax.value_and_grad, argnums=(0, 1, 2, 3))
def projected(embeddings, norms, noise, gamma, mask, target, size, options=()):
    """The soft picks projected onto `target`, and the gradients of that."""
    rows = soft_sampling(embeddings, norms, mask, noise, size=size, gamma=gamma, **dict(options))
    return jnp.vdot(rows, target)


@given(seeds, sizes, coreset_sizes, kinds)
@settings(max_examples=20)
def test_no_gradient_and_no_nan_from_padding(seed, size, k, kind):
    embeddings, norms = make_set(seed, size, kind)
    padded, padded_norms, mask, _ = with_padding(embeddings, norms, seed, SLOTS)
    target = np.random.default_rng(seed).standard_normal((k, SLOTS)).astype(np.float32)
    _, grads = jax.device_get(
        projected(padded, padded_norms, _noise(seed, k, SLOTS), 0.3, mask, target, size=k)
    )
    assert all(np.isfinite(g).all() for g in grads)
    for gradient in (grads[0][~mask], grads[1][~mask], grads[2][:, ~mask]):
        assert not np.any(gradient)


@given(seeds, st.sampled_from(((2, 3), (33, 3))))
@settings(max_examples=12)
def test_relaxation_gradients_match_finite_differences(seed, faces_and_picks):
    """Central differences of the softmax rows with fixed noise, in float64."""
    size, k = faces_and_picks
    with jax.enable_x64(True):
        embeddings, norms = make_set(seed, size, dim=8)
        embeddings, norms = embeddings.astype(np.float64), norms.astype(np.float64) / 10
        noise = _noise(seed, k, size).astype(np.float64)
        target = np.random.default_rng(seed).standard_normal((k, size))

        options = (("temperature", 0.7), ("straight_through", False))

        def loss(embeddings, norms, noise, gamma):
            mask = np.ones(size, bool)
            arguments = embeddings, norms, noise, gamma, mask, target
            return jax.device_get(projected(*arguments, size=k, options=options))

        inputs = tuple(map(np.asarray, (embeddings, norms, noise, GAMMA)))
        _, grads = loss(*inputs)
        rng = np.random.default_rng(seed)
        step = 1e-5
        for _ in range(2):
            towards = [rng.standard_normal(x.shape) / np.sqrt(x.size) for x in inputs]
            ahead, _ = loss(*[x + step * t for x, t in zip(inputs, towards, strict=True)])
            behind, _ = loss(*[x - step * t for x, t in zip(inputs, towards, strict=True)])
            slope = sum(np.vdot(g, t) for g, t in zip(grads, towards, strict=True))
            np.testing.assert_allclose((ahead - behind) / (2 * step), slope, rtol=1e-4, atol=1e-7)


def test_straight_through_borrows_the_gradient_of_the_relaxation():
    """For one pick, the two differ only in the forward value."""
    target = np.arange(9, dtype=np.float32)[None]
    arguments = *make_set(0, 9), _noise(0, 1, 9), GAMMA, np.ones(9, bool), target
    (_, hard), (_, soft) = (
        projected(*arguments, size=1, options=(("straight_through", flag),)) for flag in (True, False)
    )
    for one, other in zip(hard, soft, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_relaxation_is_a_softmax_of_scaled_scores_and_noise():
    """As loops; the center of the next distances is the mean of the faces in a row, by norm.

    A face of norm 0 has a direction all the same, so it enters with length 1.
    """
    embeddings, norms = make_set(4, 9)
    norms, noise = norms / 10, _noise(4, 3, 9)
    norms[2] = 0
    options = {"gamma": GAMMA, "temperature": 2.0, "score_scale": 0.5, "straight_through": False}
    rows = soft_sampling(embeddings, norms, np.ones(9, bool), noise, size=3, **options)
    score, distance = norms, np.full(9, np.inf)
    for row, drawn in zip(np.asarray(rows), noise, strict=True):
        odds = np.exp((0.5 * score + drawn) / 2)
        np.testing.assert_allclose(row, odds / odds.sum(), rtol=1e-4)
        center = row * np.where(norms > 0, norms, 1) @ embeddings
        cosine = embeddings @ center / np.linalg.norm(center)
        score = distance = np.minimum(distance, norms**GAMMA * (1 - cosine) / 2)


def test_without_noise_and_with_large_scores_soft_equals_hard():
    faces = *make_set(5, SLOTS), np.ones(SLOTS, bool)
    rows = np.asarray(soft_sampling(*faces, np.zeros((3, SLOTS), "f"), size=3, score_scale=1e4))
    assert rows.argmax(-1).tolist() == hard_sampling(*faces, size=3).tolist()


@pytest.mark.parametrize("call", ["hard", "soft"])
def test_rejects_what_makes_no_sense(call):
    embeddings, norms = make_set(0, 4)
    mask = np.ones(4, bool)

    def run(mask, size):
        if call == "hard":
            return fpsset.farthest_point_sampling(embeddings, norms, mask, size=size)
        return fpsset.soft_farthest_point_sampling(embeddings, norms, mask, _noise(0, 3, 4), size=size)

    with pytest.raises(ValueError, match="at least one face"):
        run(mask, 0)
    with pytest.raises(ValueError, match="disagree"):
        run(np.ones(5, bool), 3)
    with pytest.raises(ValueError, match="disagree"):
        run(np.ones((2, 4), bool), 3)
    if call == "soft":
        with pytest.raises(ValueError, match="noise must be"):
            run(mask, 2)


def test_takes_lists():
    lists = [[1.0, 0.0], [0.0, 1.0]], [1.0, 2.0], [True, True]
    assert jax.jit(lambda: fpsset.farthest_point_sampling(*lists, size=2))().tolist() == [1, 0]


def test_runs_under_jit_with_bfloat16():
    embeddings, norms = make_set(2, SLOTS)
    half, rest = embeddings.astype(jnp.bfloat16), (norms, np.ones(SLOTS, bool))
    exact = hard_sampling(half.astype(np.float32), *rest, size=3)
    assert hard_sampling(half, *rest, size=3).tolist() == exact.tolist()
