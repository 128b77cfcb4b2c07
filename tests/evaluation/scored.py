"""Figures of verification and identification, as printed on the devices that there are."""

import json

import jax
import numpy as np

from fpsset.evaluation.identification import (
    Search,
    Templates,
    identification_metrics,
    search_galleries,
)
from fpsset.evaluation.metric_names import flatten, identification_figures, verification_figures
from fpsset.evaluation.resampling import SubjectDraws
from fpsset.evaluation.scoring import pair_scores
from fpsset.evaluation.verification import all_pairs, verification_metrics
from fpsset.evaluation.verification_draws import VerificationDraws


def figures() -> dict:
    """Figures by name, of drawn templates of 60 subjects."""
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
    return {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in metrics.items()}


if __name__ == "__main__":
    print(json.dumps([jax.device_count(), figures()]))
