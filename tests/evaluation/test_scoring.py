"""Scores of pairs do not depend on the number of devices."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from fpsset.evaluation.scoring import product_blocks
from tests.compiling import FLAGS

SCRIPT = """
import json, jax, numpy as np
from fpsset.evaluation.identification import (
    Search, Templates, identification_metrics, search_galleries,
)
from fpsset.evaluation.metric_names import flatten, identification_figures, verification_figures
from fpsset.evaluation.resampling import SubjectDraws
from fpsset.evaluation.scoring import pair_scores
from fpsset.evaluation.verification import all_pairs, verification_metrics
from fpsset.evaluation.verification_draws import VerificationDraws

rng = np.random.default_rng(0)
subjects = np.repeat(np.arange(60), 5)
vectors = rng.standard_normal((60, 32))[subjects] + 1.5 * rng.standard_normal((300, 32))
vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
pairs = all_pairs(subjects)
scores = pair_scores(vectors, pairs)
draws = SubjectDraws(subjects, 50)
drawn = VerificationDraws(pairs, draws)(scores)
metrics = flatten(verification_figures(verification_metrics(scores, pairs, subjects, drawn=drawn)))
first, second = (np.arange(start, 150 + start, 5) for start in (0, 150))
search = Search(
    {"a": Templates(first, subjects[first]), "b": Templates(second, subjects[second])},
    Templates(np.flatnonzero(np.arange(300) % 5), subjects[np.arange(300) % 5 > 0]),
)
found = search_galleries(vectors, search)
identified = identification_metrics(found, draws.weights[:, draws.codes[search.probes.positions]])
metrics |= flatten(identification_figures(identified))
printed = {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in metrics.items()}
print(json.dumps([jax.device_count(), printed]))
"""


def test_one_device_and_eight_print_the_same():
    found = []
    for devices in (1, 8):
        environment = {**os.environ, "XLA_FLAGS": f"{FLAGS} --xla_force_host_platform_device_count={devices}"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, check=True
        )
        count, metrics = json.loads(done.stdout)
        assert count == devices
        found.append(metrics)
    assert found[0] == found[1]
    assert all(0 < float(found[0][name]) < 1 for name in ("tar@far=1e-2", "merged_tpir_low@fpir=1e-1"))


@pytest.mark.parametrize("entries", [1, 300, 1 << 20])
def test_blocks_are_the_product(entries):
    assert jax.local_device_count() == 8
    left, right = np.random.default_rng(0).standard_normal((2, 37, 16)).astype(np.float32)
    seen = []
    for rows, block in product_blocks(left, right[:20], entries):
        seen.append(np.arange(37)[rows])
        np.testing.assert_allclose(block, left[rows] @ right[:20].T, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(37))
