"""Error rates by norm, size and share of video frames, against small cases worked by hand."""

import numpy as np
import pytest

from fpsset.evaluation.resampling import SubjectDraws
from fpsset.evaluation.strata import Strata
from fpsset.evaluation.verification import Pairs, all_pairs
from fpsset.face_set import RaggedSets


def make_strata(sizes, norms, media, subjects, resamples=0):
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows = np.random.default_rng(0).permutation(starts[-1])  # templates' faces lie anywhere in the table
    table_norms, table_media = np.empty(len(rows), np.float32), np.empty(len(rows), np.int64)
    table_norms[rows], table_media[rows] = norms, media
    sets = RaggedSets(np.zeros((len(rows), 2), np.float32), table_norms, table_media, rows, starts)
    pairs = all_pairs(np.array(subjects))
    return Strata(sets, pairs, SubjectDraws(np.array(subjects), resamples)), pairs


def scores_of(pairs: Pairs, genuine) -> np.ndarray:
    scores = np.zeros(len(pairs.same), np.float32)
    scores[pairs.same] = genuine
    return scores


def test_by_hand():
    # Four people, two templates each: mean norms 1 to 8, people 0 and 1 the poorest.
    sizes = [1, 1, 2, 2, 5, 5, 17, 65]
    norms = np.repeat(np.arange(1.0, 9.0), sizes)
    media = np.arange(sum(sizes))
    media[2:4] = 1000  # all of template 2 is a video
    media[11:16] = 2000  # all of template 5
    strata, pairs = make_strata(sizes, norms, media, [0, 0, 1, 1, 2, 2, 3, 3])
    assert pairs.same.sum() == 4
    output_norms = np.arange(8.0, 0.0, -1.0)
    found, curves = strata(scores_of(pairs, [0.1, 0.9, 0.8, 0.9]), 1e-3, 0.5, output_norms)
    by_input, by_output = found.frr_by_input_norm, found.frr_by_output_norm
    assert found.far == 1e-3 and by_input[0.0].rate.value == 0.25
    # An eighth of the templates is person 0's first, whose pair is the one rejected.
    assert by_input[0.15].rate.value == 0.0 and by_input[0.15].genuine_pairs == 3
    assert by_input[0.3].genuine_pairs == 3  # templates 0 and 1, of one person, are gone
    # By the other norm they are the best, and person 3's the poorest.
    assert by_output[0.3].rate.value == pytest.approx(1 / 3)
    assert curves["input_norm"][1][[0, 13]].tolist() == [0.25, 0.0]
    sizes_found = {name: stratum.genuine_pairs for name, stratum in found.tar_by_size.items()}
    assert sizes_found == {"1": 1, "2-4": 1, "5-16": 1, "17-64": 1, "65+": 0}
    assert found.tar_by_size["1"].rate.value == 0.0 and found.tar_by_size["65+"].rate.value is None
    videos = {name: stratum.genuine_pairs for name, stratum in found.tar_by_video.items()}
    assert videos == {"0": 2, "below half": 0, "half or more": 2, "all": 0}


def test_ties_go_together():
    strata, pairs = make_strata([1] * 8, np.ones(8), np.arange(8), [0, 0, 1, 1, 2, 2, 3, 3])
    found, _ = strata(scores_of(pairs, [0.1, 0.9, 0.9, 0.9]), 1e-3, 0.5, np.arange(8.0))
    assert found.frr_by_input_norm[0.0].rate.value == 0.25
    assert found.frr_by_output_norm[0.3].genuine_pairs == 3
    assert found.frr_by_input_norm[0.3].genuine_pairs == 4  # ties: none is discarded


def test_draws_are_the_tables_of_the_people_drawn():
    rng = np.random.default_rng(1)
    subjects = np.repeat(np.arange(12), 3)
    sizes = rng.integers(1, 6, 36)
    strata, pairs = make_strata(
        sizes, rng.uniform(1, 30, sizes.sum()), rng.integers(0, 40, sizes.sum()), subjects, 40
    )
    scores = rng.uniform(0, 1, len(pairs.same)).astype(np.float32)
    found, _ = strata(scores, 1e-3, 0.5, rng.uniform(1, 30, 36))
    small = np.minimum(sizes[pairs.first], sizes[pairs.second])
    members = pairs.same & (small >= 2) & (small <= 4)
    assert found.tar_by_size["2-4"].genuine_pairs == members.sum()
    rates = []
    for weight in SubjectDraws(subjects, 40).weights:
        times = weight[subjects[pairs.first[members]]].astype(int)
        rates.append(np.mean(np.repeat(scores[members] > 0.5, times)))
    assert found.tar_by_size["2-4"].rate.interval == pytest.approx(
        tuple(np.percentile(rates, [2.5, 97.5])), abs=1e-6
    )
