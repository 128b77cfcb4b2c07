"""TAR at FAR, pairs and intervals against counting by hand."""

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpsset.data.feature_table import UNKNOWN_SUBJECT
from fpsset.errors import InputError
from fpsset.evaluation import verification, verification_draws
from fpsset.evaluation.resampling import SubjectDraws, interval
from fpsset.evaluation.scoring import pair_scores
from fpsset.evaluation.verification import (
    CONVENTIONS,
    FARS,
    Pairs,
    all_pairs,
    area_under_curve,
    equal_error_rate,
    listed_pairs,
    operating_points,
    reachable_far,
    roc,
)
from fpsset.evaluation.verification_draws import VerificationDraws
from tests.sets import seeds


def brute_force(scores, same, far):
    """The best TAR over every threshold whose FAR does not exceed the target."""
    best = -1.0
    for threshold in np.concatenate([[-np.inf], np.unique(scores)]):
        if (scores[~same] > threshold).mean() <= far + 1e-12:
            best = max(best, (scores[same] > threshold).mean())
    return best


@given(seeds, st.integers(10, 120), st.booleans())
def test_conservative_tar(seed, impostors, ties):
    rng = np.random.default_rng(seed)
    same = np.arange(impostors + 20) < 20
    scores = rng.standard_normal(len(same)) + 1.5 * same
    if ties:
        scores = np.round(scores, 1)
    for point in operating_points(scores, same, (0.1, 0.05, 0.01)):
        if point.far * impostors < 1 - 1e-6:
            assert point.tar is None and point.achieved_far is None
            continue
        assert point.tar == pytest.approx(brute_force(scores, same, point.far))
        assert point.achieved_far <= point.far
        assert point.achieved_far == pytest.approx((scores[~same] > point.threshold).mean())


def test_a_far_that_is_an_exact_count_is_reached():
    scores = np.concatenate([np.linspace(0, 1, 1000), [2.0]])
    (point,) = operating_points(scores, np.arange(1001) == 1000, (1e-3,))
    assert point.achieved_far == pytest.approx(1e-3) and point.tar == 1


def test_pairs_that_do_not_fit_in_memory(monkeypatch):
    monkeypatch.setattr(verification, "memory_limit", lambda: 1 << 30)
    said = "20,000 templates: 199,990,000 pairs need about 22.4 GiB of memory, of which there are 1.0; list"
    with pytest.raises(InputError, match=said):
        all_pairs(np.arange(20_000))
    assert len(all_pairs(np.arange(2000)).same) == 1_999_000


def test_a_pair_counts_once_and_a_template_is_no_pair(tmp_path, capsys):
    path, subjects = tmp_path / "pairs.txt", np.array([4, 4, 7])
    path.write_text("10 11 1\n10 10 1\n11 12 0\n11 10 1\n12 11 0\n12 12 1\n10 12 0\n")
    pairs = listed_pairs(path, np.array([10, 11, 12]), subjects)
    assert [column.tolist() for column in pairs] == [[0, 1, 0], [1, 2, 2], [True, False, False]]
    said = "left out 2 pairs of a template with itself and 2 repeated pairs"
    assert said in capsys.readouterr().err
    path.write_text("10 12 0\n12 10 1\n")
    with pytest.raises(InputError, match="pair 2 is genuine and impostor at once: pair 1"):
        listed_pairs(path, np.array([10, 11, 12]), np.full(3, UNKNOWN_SUBJECT))
    path.write_text("10 10 1\n")
    with pytest.raises(InputError, match="only pairs of a template with itself"):
        listed_pairs(path, np.array([10, 11, 12]), subjects)


def test_all_pairs():
    pairs = all_pairs(np.array([4, 4, 7]))
    assert list(zip(*pairs, strict=True)) == [(0, 1, True), (0, 2, False), (1, 2, False)]


@pytest.mark.parametrize("count, listed", [(20, 190), (20, 57), (300, 400)])  # many pairs, and few
@pytest.mark.parametrize("entries", [1, 70, 1 << 23])
def test_pair_scores_are_cosines_in_any_block(count, listed, entries):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count, 8)).astype(np.float32)
    everyone = all_pairs(np.arange(count))
    pairs = Pairs(*(column[rng.permutation(len(everyone.same))[:listed]] for column in everyone))
    wanted = (vectors @ vectors.T)[pairs.first, pairs.second]
    np.testing.assert_allclose(pair_scores(vectors, pairs, entries), wanted, rtol=1e-4, atol=1e-5)


def test_listed_pairs(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("10 12 1\n12 15 0\n")
    pairs = listed_pairs(path, np.array([10, 12, 15]), np.array([1, 1, 2]))
    assert list(zip(*pairs, strict=True)) == [(0, 1, True), (1, 2, False)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("", "has no pairs"),
        ("10 12 1\n1 2\n", "line 2 is not 'template template same'"),
        ("# pairs\n10 12 1\n\na b c\n", "line 4 is not"),
        ("1,10,12\n", "pair 1: 'same' must be 0 or 1; lines are"),
        (f"10 12 1\n10 {10**30} 0\n", "line 2 is not"),
        ("10 12 1\n10 11 0\n", "pair 2 names template 11, which has no faces"),
        ("10 12 1\n10 15 2\n", "pair 2: 'same' must be 0 or 1"),
        ("10 12 0\n", "pair 1 disagrees"),
    ],
)
def test_bad_pair_lists(tmp_path, text, message):
    path = tmp_path / "pairs.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=f"pairs.txt: .*{message}"):
        listed_pairs(path, np.array([10, 12, 15]), np.array([1, 1, 2]))


def test_reachable_far():
    pairs = Pairs(np.zeros(500), np.zeros(500), np.zeros(500, bool))
    assert reachable_far(pairs, 1e-3) == 1e-2
    assert reachable_far(pairs, 1e-1) == 1e-1
    with pytest.raises(InputError, match="too few"):
        reachable_far(Pairs(*[x[:5] for x in pairs]), 1e-3)


def test_roc_agrees_with_the_operating_points():
    rng = np.random.default_rng(1)
    same = np.arange(5000) < 300
    scores = rng.standard_normal(5000) + 2 * same
    far, tar = roc(scores, same)
    assert (np.diff(far) > 0).all() and (np.diff(tar) >= 0).all() and far[-1] == 1
    for point, rate in zip(operating_points(scores, same, far), tar, strict=True):
        assert point.achieved_far == pytest.approx(point.far) and point.tar == pytest.approx(rate)


def draw(scores, pairs, subjects, resamples, fars=FARS):
    return VerificationDraws(pairs, SubjectDraws(subjects, resamples))(scores, fars)


def tar_intervals(*arguments):
    return {far: interval(tars) for far, tars in draw(*arguments).tar.items()}


def _simulate(rng, people=60, spread=1.0):
    subjects = np.repeat(np.arange(people), 4)
    pairs = all_pairs(subjects)
    ease = rng.standard_normal(people)[subjects[pairs.first]]
    scores = rng.standard_normal(len(pairs.same)) + pairs.same * (2.5 + spread * ease)
    return scores, pairs, subjects


def test_intervals_hold_the_estimate_and_cover_subjects_not_pairs():
    scores, pairs, subjects = _simulate(np.random.default_rng(0))
    intervals = tar_intervals(scores, pairs, subjects, 300)
    narrow = tar_intervals(*_simulate(np.random.default_rng(0), spread=0.0), 300)
    for point in operating_points(scores, pairs.same):
        if point.tar is None:
            assert point.far not in intervals
            continue
        low, high = intervals[point.far]
        assert low <= point.tar <= high
    low, high = intervals[1e-2]
    pairs_alone = 4 * np.sqrt(0.25 / pairs.same.sum())
    assert high - low > pairs_alone  # pairs of one subject are correlated
    assert narrow[1e-2][1] - narrow[1e-2][0] < high - low


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(("ties", "fars"), [(False, (0.1, 0.01)), (True, (0.1, 0.01)), (True, (1e-3,))])
def test_every_draw_is_the_table_of_the_people_drawn(monkeypatch, ties, fars, convention):
    """Draws against tables built from the people drawn; a low FAR searches few scores first."""
    monkeypatch.setattr(verification_draws, "_WINDOW", 3)
    scores, pairs, subjects = _simulate(np.random.default_rng(3), people=24)
    if ties:
        scores = np.round(scores, 1)
    draws = SubjectDraws(subjects, 5, seed=5)
    drawn = VerificationDraws(pairs, draws, convention)(scores, fars)
    for number, weight in enumerate(draws.weights.astype(int)):
        times = np.where(pairs.same, weight[subjects[pairs.first]], 0)
        times += np.where(~pairs.same, weight[subjects[pairs.first]] * weight[subjects[pairs.second]], 0)
        table = np.repeat(scores, times), np.repeat(pairs.same, times)
        for point in CONVENTIONS[convention](*table, fars):
            assert drawn.tar[point.far][number] == pytest.approx(point.tar)
            assert drawn.threshold[point.far][number] == point.threshold
        assert drawn.auc[number] == pytest.approx(area_under_curve(*table))
        if not ties:  # among equal scores, the order decides which is rejected first
            assert drawn.eer[number] == pytest.approx(equal_error_rate(*table), abs=5e-3)


def test_whole_curves_by_hand():
    scores, same = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), np.array([1, 1, 0, 1, 0, 0], bool)
    # Of nine pairs of a genuine and an impostor score one is the wrong way round.
    assert area_under_curve(scores, same) == pytest.approx(8 / 9)
    # With .7 accepted FAR is 1/3 and FRR 0; with it refused FAR is 0 and FRR 1/3.
    assert equal_error_rate(scores, same) == pytest.approx(1 / 6)
    assert area_under_curve(np.ones(6), same) == 0.5


def test_curves_agree_with_scikit_learn():
    from sklearn import metrics

    rng = np.random.default_rng(2)
    same = np.arange(4000) < 500
    scores = np.round(rng.standard_normal(4000) + 1.5 * same, 2)
    far, tar, _ = metrics.roc_curve(same, scores, drop_intermediate=False)
    assert area_under_curve(scores, same) == pytest.approx(metrics.auc(far, tar))
    assert equal_error_rate(scores, same) == pytest.approx(far[np.argmin(abs(far + tar - 1))], abs=5e-3)
    for point in operating_points(scores, same):
        if point.tar is not None:
            assert point.tar == pytest.approx(tar[far <= point.far + 1e-12].max())


def test_too_few_subjects_get_no_interval():
    assert tar_intervals(*_simulate(np.random.default_rng(0), people=9), 20) == {}


def test_error_rates_of_a_draw_may_meet_at_its_first_impostor():
    """Two genuine pairs of subject 0 score below the highest of twelve impostors, and above the others."""
    subjects = np.repeat(np.arange(10), 4)
    everyone = all_pairs(subjects)
    kept = np.sort(np.append(np.flatnonzero(everyone.same), np.flatnonzero(~everyone.same)[::60]))
    pairs = Pairs(*(column[kept] for column in everyone))
    scores = np.where(pairs.same, 0.9, np.linspace(0.1, 0.2, len(kept)))
    scores[np.flatnonzero(~pairs.same)[5]] = 0.8
    scores[np.flatnonzero(pairs.same)[:2]] = 0.7
    thresholds = np.append(-np.inf, scores[~pairs.same])
    wrong = [np.where(pairs.same, scores <= threshold, scores > threshold) for threshold in thresholds]
    draws = SubjectDraws(subjects, 40)
    found = VerificationDraws(pairs, draws)(scores, (0.1,)).eer
    for weight, eer in zip(draws.weights, found, strict=True):
        times = weight[subjects[pairs.first]] * np.where(pairs.same, 1, weight[subjects[pairs.second]])
        far, frr = (np.average(wrong, 1, times * kind) for kind in (~pairs.same, pairs.same))
        nearest = np.argmin(np.abs(far - frr))
        assert eer == pytest.approx((far + frr)[nearest] / 2)
    assert len(np.unique(found)) > 3


def test_an_unknown_subject_gets_no_interval():
    subjects = np.append(np.repeat(np.arange(20), 2), UNKNOWN_SUBJECT)
    assert len(SubjectDraws(subjects[:-1], 7)) == 7 and len(SubjectDraws(subjects, 7)) == 0


def test_draws_by_parts_of_the_table_and_by_a_sample(monkeypatch):
    scores, pairs, subjects = _simulate(np.random.default_rng(3), people=24)
    whole = draw(scores, pairs, subjects, 20, (0.1, 0.01))
    monkeypatch.setattr(verification_draws, "_TABLE", 24 * 7)
    parts = draw(scores, pairs, subjects, 20, (0.1, 0.01))
    for one, other in zip(
        (*whole.tar.values(), whole.eer, whole.auc), (*parts.tar.values(), parts.eer, parts.auc), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    monkeypatch.setattr(verification_draws, "_SAMPLE", 2000)
    sampled = draw(scores, pairs, subjects, 20, (0.1, 0.01))
    np.testing.assert_array_equal(sampled.eer, whole.eer)
    assert 0 < np.abs(sampled.auc - whole.auc).max() < 0.02


def test_intervals_without_randomness_are_points():
    """Perfect separation stays perfect in every resample."""
    subjects = np.repeat(np.arange(10), 2)
    pairs = all_pairs(subjects)
    assert tar_intervals(pairs.same.astype(float), pairs, subjects, 50) == {0.1: (1.0, 1.0), 0.01: (1.0, 1.0)}


@pytest.mark.slow
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_intervals_cover_the_truth(convention):
    """Coverage of the 95% intervals over 500 data sets with known true figures.

    Subjects vary in difficulty and in similarity to others, with normal scores around that.
    """
    people, each = 120, 4
    spread, likeness, gap = 0.7, 0.3, 2.5
    deviation = np.sqrt(1 + 2 * likeness**2), np.sqrt(1 + spread**2)  # of impostor and genuine scores
    normal = statistics.NormalDist()
    crossing = gap / (1 + deviation[1] / deviation[0])
    truth = {
        far: normal.cdf((gap - deviation[0] * normal.inv_cdf(1 - far)) / deviation[1])
        for far in (1e-1, 1e-2, 1e-3)
    }
    truth |= {"eer": 1 - normal.cdf(crossing / deviation[0]), "auc": normal.cdf(gap / np.hypot(*deviation))}
    subjects = np.repeat(np.arange(people), each)
    pairs = all_pairs(subjects)
    first, second = subjects[pairs.first], subjects[pairs.second]
    covered = dict.fromkeys(truth, 0)
    for number in range(500):
        rng = np.random.default_rng([7, number])
        ease, alike = rng.standard_normal((2, people))
        centre = np.where(pairs.same, gap + spread * ease[first], likeness * (alike[first] + alike[second]))
        scores = (centre + rng.standard_normal(len(pairs.same))).astype(np.float32)
        draws = VerificationDraws(pairs, SubjectDraws(subjects, 200, seed=number), convention)
        drawn = draws(scores, (1e-1, 1e-2, 1e-3))
        figures = {**drawn.tar, "eer": drawn.eer, "auc": drawn.auc}
        for name, value in truth.items():
            low, high = interval(figures[name])
            covered[name] += low <= value <= high
    print({name: count / 500 for name, count in covered.items()})
    assert all(0.92 <= count / 500 <= 0.98 for count in covered.values()), covered
