"""Scores of pairs do not depend on the number of devices."""

import json

import jax
import numpy as np
import pytest

from fpsset.evaluation.scoring import product_blocks
from tests.compiling import FLAGS
from tests.evaluation.scored import figures
from tests.forked import Forked


def test_one_device_and_eight_print_the_same():
    ended = Forked("tests.evaluation.scored", XLA_FLAGS=FLAGS).ended()
    assert ended.code == 0, ended.err
    devices, alone = json.loads(ended.out)
    assert devices == 1 and jax.device_count() == 8
    assert figures() == alone
    assert all(0 < float(alone[name]) < 1 for name in ("tar@far=1e-2", "merged_tpir_low@fpir=1e-1"))


@pytest.mark.parametrize("entries", [1, 300, 1 << 20])
def test_blocks_are_the_product(entries):
    assert jax.local_device_count() == 8
    left, right = np.random.default_rng(0).standard_normal((2, 37, 16)).astype(np.float32)
    seen = []
    for rows, block in product_blocks(left, right[:20], entries):
        seen.append(np.arange(37)[rows])
        np.testing.assert_allclose(block, left[rows] @ right[:20].T, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(37))
