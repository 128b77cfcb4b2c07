"""Weights within media, against a loop over media."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpsset.ops.media import media_shares, media_softmax
from tests.sets import seeds

_softmax, _shares = jax.jit(media_softmax), jax.jit(media_shares)


@given(seed=seeds, scale=st.sampled_from((0.0, 1.0, 300.0)))
@settings(max_examples=12)
def test_weights_are_a_softmax_within_each_medium(seed, scale):
    """Exponentials of +-300 would overflow; padding holds NaN and codes out of range."""
    rng = np.random.default_rng(seed)
    mask = rng.random((3, 20)) < 0.7
    mask[2] = False
    logs = np.where(mask, scale * rng.standard_normal(mask.shape), np.nan).astype(np.float32)
    media = np.where(mask, rng.integers(0, rng.integers(1, 20), mask.shape), -(10**9)).astype(np.int32)
    weights = np.asarray(_softmax(logs, media, mask))
    expected = np.zeros(mask.shape)
    for row in range(3):
        for medium in np.unique(media[row][mask[row]]):
            same = mask[row] & (media[row] == medium)
            shares = np.exp(logs[row][same].astype(np.float64) - logs[row][same].max())
            expected[row][same] = shares / shares.sum()
            assert weights[row][same].sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(weights, expected, atol=1e-5)
    assert not weights[~mask].any()


def test_equal_weights_are_shares():
    rng = np.random.default_rng(0)
    mask, media = rng.random((2, 9)) < 0.8, rng.integers(0, 4, (2, 9)).astype(np.int32)
    sizes = np.array(
        [[np.sum(m & (row == code)) for code in row] for m, row in zip(mask, media, strict=True)]
    )
    weights = _softmax(np.zeros((2, 9), np.float32), media, mask)
    np.testing.assert_allclose(weights, _shares(sizes.astype(np.float32), mask), rtol=1e-6)
