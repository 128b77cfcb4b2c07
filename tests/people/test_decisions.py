"""Thresholds keep what they claim, and answers say no more than the data."""

import itertools

import numpy as np
import pytest

from fpsset.errors import InputError
from fpsset.people.decisions import (
    CANNOT_TELL,
    DIFFERENT,
    SAME,
    Decider,
    decide,
    decide_search,
    labels_of,
    open_set_curve,
    strata_of,
    stratum_rows,
)
from fpsset.people.store import open_store
from fpsset.people.thresholds import drop_thresholds, read_decider, write_decider
from fpsset.people.trials import Probes, run_trials
from tests.people.edited import enrolled, make_table
from tests.people.test_search import by_hand, make_gallery, unit


@pytest.fixture(scope="module")
def gallery():
    return make_gallery(60, 2)


@pytest.fixture(scope="module")
def probes(gallery):
    """Two of each person, good and poor, and 40 of strangers; poor ones look alike, also like some people."""
    rng = np.random.default_rng(3)
    own = np.repeat(np.arange(60), 2)
    vectors = gallery.vectors[gallery.starts[own]].astype(np.float32) + 0.2 * unit(rng, 120)
    vectors = np.concatenate([vectors, unit(rng, 40)])
    quality = np.where(np.arange(160) % 2 == 0, 3.0, 1.0).astype(np.float32) + rng.uniform(0, 0.1, 160)
    vectors[quality < 2] += 2.0 * gallery.vectors[5].astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [gallery.names[number] for number in own] + ["stranger"] * 40
    return Probes(vectors, names, 1 + np.arange(160) % 7, quality)


@pytest.mark.parametrize("rate", [1e-3, 1e-2, 0.2])
def test_thresholds_are_those_of_all_scores(gallery, probes, rate):
    edges, groups = strata_of(probes, "quality")
    trials = run_trials(gallery, probes, rate, groups)
    scores = by_hand(probes.vectors, gallery)
    own = np.array(probes.names)[:, None] == gallery.names[None]
    decider = decide(trials, rate, 60, "quality", edges, groups)
    impostors = np.sort(scores[~own])[::-1]
    threshold = decider.everyone
    assert threshold.impostors == len(impostors) and threshold.genuine == own.sum() == 120
    assert threshold.same == pytest.approx(impostors[int(rate * len(impostors))], abs=1e-6)
    assert threshold.accepted == (scores[~own] > threshold.same + 1e-6).sum() <= rate * len(impostors)
    assert threshold.hits == (scores[own] > threshold.same).sum()
    rows = stratum_rows(trials, threshold.same, labels_of(edges, "quality"), groups)
    for group, row in enumerate(rows):
        members = groups == group
        assert row.impostors == (~own[members]).sum()
        assert row.accepted == (scores[members][~own[members]] > threshold.same + 1e-6).sum()
    assert sum(row.accepted for row in rows) == threshold.accepted
    for group, one in enumerate(decider.strata):
        row = rows[group]
        assert (one is not None) == (not rate / 2 <= row.accepted / row.impostors <= 2 * rate)
        if one:
            members = np.sort(scores[groups == group][~own[groups == group]])[::-1]
            assert one.same == pytest.approx(members[int(rate * len(members))], abs=1e-6)
    assert rate > 0.1 or any(decider.strata)  # poor probes look like somebody


def test_the_search_threshold_and_the_open_set_curve(gallery, probes):
    trials = run_trials(gallery, probes, 1e-2)
    scores = by_hand(probes.vectors, gallery)
    own = np.array(probes.names)[:, None] == gallery.names[None]
    top, mate = np.where(own, -9, scores).max(1), np.where(own, scores, -9).max(1)
    threshold = decide_search(trials, 0.05, 60).everyone
    assert threshold.impostors == 160 and threshold.accepted == (top > threshold.same + 1e-6).sum() == 8
    hits = (mate > top) & (mate > threshold.same)
    assert threshold.hits == hits.sum() and threshold.genuine == 120
    fpir, tpir = open_set_curve(trials)
    assert (np.diff(fpir) > 0).all() and (np.diff(tpir) >= 0).all()
    place = np.searchsorted(fpir, 0.05, side="right") - 1
    assert tpir[place] == pytest.approx(hits.sum() / 120)


def test_answers(gallery, probes):
    trials = run_trials(gallery, probes, 1e-2)
    threshold = decide(trials, 1e-2, 60).everyone
    genuine = np.sort(trials.mate[:120])
    assert threshold.different == genuine[1]
    assert threshold.answer(threshold.same) != SAME
    assert threshold.answer(np.nextafter(threshold.same, 1)) == SAME
    high = threshold._replace(same=0.9, different=0.2)
    assert [high.answer(score) for score in (0.95, 0.5, 0.1)] == [SAME, f"{CANNOT_TELL} FAR", DIFFERENT]
    assert high._replace(different=None).answer(-1.0, "FPIR") == f"{CANNOT_TELL} FPIR"


def test_too_few_comparisons(gallery, probes):
    trials = run_trials(gallery, probes, 1e-6)
    with pytest.raises(InputError, match="comparisons with others are too few for --far"):
        decide(trials, 1e-6, 60)
    with pytest.raises(InputError, match=r"160 probes are too few for --fpir 0.001, which needs 1000"):
        decide_search(trials, 1e-3, 60)


def test_thresholds_are_kept_by_rate(tmp_path, gallery, probes):
    enrolled(tmp_path / "a.fps", make_table(2, most=2))
    edges, groups = strata_of(probes, "size")
    deciders = [
        decide(run_trials(gallery, probes, rate, groups), rate, 60, "size", edges, groups)
        for rate in (0.01, 0.1)
    ]
    with open_store(tmp_path / "a.fps") as store:
        assert read_decider(store, "far", None) is None
        with pytest.raises(InputError, match="holds no threshold"):
            read_decider(store, "far", 0.01)
        for decider in deciders:
            with store.change():
                write_decider(store, "far", decider)
        assert read_decider(store, "far", 0.1) == deciders[1]
        with pytest.raises(InputError, match=r"holds thresholds for 0.01, 0.1; give one"):
            read_decider(store, "far", None)
        with store.change():
            drop_thresholds(store)
        assert read_decider(store, "far", None) is None


def test_a_probe_gets_the_threshold_of_its_stratum(gallery, probes):
    edges, groups = strata_of(probes, "size")
    assert [np.unique(probes.sizes[groups == g]).tolist() for g in range(3)] == [[1], [2, 3, 4], [5, 6, 7]]
    assert labels_of(edges, "size") == ["1 faces", "2 to 4 faces", "5 to 16 faces", "17 or more faces"]
    one = decide(run_trials(gallery, probes, 0.01), 0.01, 60).everyone
    own = [one._replace(same=0.1 * place) for place in range(4)]
    decider = Decider(one, "size", edges, [*own[:3], None], 60)
    assert [decider.threshold(size, 2.0) for size in (1, 4, 5, 17)] == [*own[:3], one]
    assert Decider.from_json(decider.to_json()) == decider
    for low, high in itertools.pairwise((1, 2, 5, 17)):
        assert decider.threshold(high - 1, 0.0) == decider.threshold(low, 0.0)
