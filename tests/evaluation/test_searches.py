"""Searches by lists: average precision and end-to-end retrieval in closed form, and against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpsset.data.feature_table import FeatureTable
from fpsset.data.listed_searches import ListedSearches, Task, sets_of
from fpsset.errors import InputError
from fpsset.evaluation.identification import Search, Templates
from fpsset.evaluation.mean_precision import average_precision, mate_ranks
from fpsset.evaluation.searches import evaluate_searches
from fpsset.inference.aggregator import PlainAggregator
from tests.evaluation.test_identification import circle


def test_average_precision_in_closed_form():
    ranks = np.array([[1, 2, 3], [2, 0, 0], [1, 4, 0], [0, 0, 0], [10, 0, 0]])
    # The areas of trapezoids: (0/1 + 1/2)/2; then half of (1 + 1)/2 and half of (1/3 + 2/4)/2; (0 + 1/10)/2.
    want = [1, 1 / 4, (1 + (1 / 3 + 1 / 2) / 2) / 2, np.nan, 1 / 20]
    np.testing.assert_allclose(average_precision(ranks), want)


@given(seed=st.integers(0, 2**32 - 1), ties=st.booleans())
def test_average_precision_against_a_walk_down_the_list(seed, ties):
    """Walks down the sorted gallery as the published tools do, mates last among equals."""
    rng = np.random.default_rng(seed)
    subjects = rng.integers(0, 5, 40)
    vectors = rng.standard_normal((40, 3))
    vectors = np.sign(vectors) if ties else vectors
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    gallery, probes = Templates(np.arange(30), subjects[:30]), Templates(np.arange(30, 40), subjects[30:])
    ranks = mate_ranks(vectors, Search({"a": gallery}, probes))
    for row, place in enumerate(probes.positions):
        scores = np.round(vectors[:30] @ vectors[place], 5)
        mates = subjects[:30] == subjects[place]
        order = np.lexsort((mates, -scores))
        hits = np.flatnonzero(mates[order]) + 1
        if not ties:
            assert ranks[row][ranks[row] > 0].tolist() == hits.tolist()
        area, found, precision = 0.0, 0, 1.0
        for position, entry in enumerate(order, 1):
            found += mates[entry]
            area += mates[entry] * (precision + found / position) / 2
            precision = found / position
        if not ties:
            assert average_precision(ranks)[row] == pytest.approx(
                area / found if found else np.nan, nan_ok=True
            )
    assert (ranks >= 0).all() and ranks.shape[1] == np.bincount(subjects[:30])[subjects[30:]].max()


def test_a_tie_counts_against_the_mate():
    vectors = circle(0, 0, 90)
    gallery = Templates(np.array([0, 1, 2]), np.array([7, 8, 8]))
    ranks = mate_ranks(vectors, Search({"a": gallery}, Templates(np.array([0, 1]), np.array([7, 8]))))
    # Template 0 is not its own mate; template 1 is not, so that its mate at 90 degrees follows that at 0.
    assert ranks.tolist() == [[0, 0], [2, 0]]


@pytest.fixture
def listed():
    """Eight faces; two galleries of persons 1 and 2, and 3 whose only image has no face.

    Probes: 1 at 10 degrees, 2 at 80, 1 at 70 (nearer to 2), 2 without a face, 3 at 180, 4, whom nobody lists.
    """
    vectors = circle(0, 90, 10, 80, 70, 180, 200)
    count = len(vectors)
    ids = np.arange(count)
    faces = FeatureTable(vectors, np.ones(count, np.float32), ids, ids, name="faces")
    rows = [[0], [1], [], [2], [3], [4], [], [5], [6]]
    subjects = np.array([1, 2, 3, 1, 2, 1, 2, 3, 4])
    task = Task({"g1": np.array([0, 2]), "g2": np.array([1])}, np.arange(3, 9))
    sets = sets_of(faces, [np.array(row, np.int64) for row in rows])
    return faces, ListedSearches("lists", subjects, sets, {"search": task}, (1, 2), True, True)


def test_end_to_end_by_hand(listed):
    found = evaluate_searches(PlainAggregator(pooling="mean"), *listed, resamples=0)
    for figures in found.figures["search"].values():
        # Six probes are listed, five of persons in galleries; three have faces and so has a mate.
        assert (figures.listed, figures.listed_mated) == (6, 5)
        counts = figures.identification
        assert (counts.probes, counts.mated_probes, counts.gallery) == (5, 3, 2)
        assert counts.ranks[1].value == pytest.approx(2 / 3) and counts.ranks[2].value == 1
        assert figures.retrieval[1].value == pytest.approx(2 / 5)
        assert figures.retrieval[2].value == pytest.approx(3 / 5)
        # Average precisions 1, 1 and (0 + 1/2) / 2.
        assert figures.mean_precision.value == pytest.approx(2.25 / 3)
    fpir, tpir = found.curves["search"]["dir"]["mean"]
    # In g1, 10 and 70 degrees have the only entry as their mate; in g2, 80 has.
    assert fpir[-1] == 1 and tpir[-1] == 1


def test_draws_are_of_the_probes_subjects():
    """With twelve persons found and twelve missed, each draw's rate is the share drawn of the former."""
    vectors = np.eye(24, dtype=np.float32)[:12]
    faces = FeatureTable(vectors, np.ones(12, np.float32), np.arange(12), np.arange(12), name="faces")
    gallery = [np.array([i] if i < 12 else [], np.int64) for i in range(24)]
    sets = sets_of(faces, [*gallery, *gallery])
    task = Task({"g1": np.arange(12), "g2": np.arange(12)}, np.arange(24, 48))
    subjects = np.tile(np.arange(24), 2)
    lists = ListedSearches("lists", subjects, sets, {"search": task}, (1,), end_to_end=True)
    figures = evaluate_searches(PlainAggregator(), faces, lists, resamples=50).figures["search"]["fpsset"]
    assert figures.listed_mated == 12 and figures.retrieval[1].value == 1
    assert figures.mean_precision is None
    whole = lists._replace(tasks={"search": Task({"g1": np.arange(24)}, task.probes)})
    rate = evaluate_searches(PlainAggregator(), faces, whole, resamples=50).figures["search"]["fpsset"]
    assert rate.retrieval[1].value == 0.5 and np.ptp(rate.retrieval[1].draws) > 0.1
    assert 0.2 < rate.retrieval[1].interval.low < 0.5 < rate.retrieval[1].interval.high < 0.8


def test_a_search_without_faces_is_refused(listed):
    faces, lists = listed
    task = lists.tasks["search"]
    for change, words in (
        (task._replace(probes=np.array([6])), "lists, search: no probe has a face"),
        (task._replace(galleries={"g1": np.array([2])}), "nobody in gallery g1 has a face"),
    ):
        with pytest.raises(InputError, match=words):
            evaluate_searches(PlainAggregator(), faces, lists._replace(tasks={"search": change}))
