"""Exact binomial bounds, against SciPy's."""

import pytest
from scipy.special import betaincinv

from fpsset.evaluation.binomial import exact_interval


@pytest.mark.parametrize(
    "count, trials", [(0, 1), (1, 1), (0, 50), (3, 50), (49, 50), (43, 43750), (900, 10**6)]
)
def test_bounds_are_clopper_and_pearsons(count, trials):
    low, high = exact_interval(count, trials)
    assert low == pytest.approx(betaincinv(count, trials - count + 1, 0.025) if count else 0.0, rel=1e-6)
    assert high == pytest.approx(
        betaincinv(count + 1, trials - count, 0.975) if count < trials else 1.0, rel=1e-6
    )


@pytest.mark.parametrize("count, trials", [(3, 2), (-1, 2), (0, 0)])
def test_counts_that_are_none(count, trials):
    with pytest.raises(ValueError, match=f"{count} of {trials}"):
        exact_interval(count, trials)
