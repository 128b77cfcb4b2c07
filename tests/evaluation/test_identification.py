"""1:N search against a case worked by hand, and against loops over single probes."""

import functools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpsset.errors import InputError
from fpsset.evaluation import identification
from fpsset.evaluation.identification import (
    Outcomes,
    Search,
    Templates,
    identification_metrics,
    match_curve,
    open_set_curve,
    search_galleries,
    search_protocol,
)
from fpsset.evaluation.metric_names import flatten, identification_figures, merged_tpirs, open_and_closed_set
from fpsset.evaluation.resampling import SubjectDraws
from fpsset.evaluation.scoring import row_blocks
from fpsset.evaluation.verification import nearest_operating_points


def circle(*degrees):
    """Unit rows in the plane: cosines are those of the angles between."""
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


def test_by_hand(monkeypatch):
    monkeypatch.setattr(identification, "FPIRS", (0.5,))
    # Gallery a: subject 1 at 0, 2 at 90. Gallery b: 3 at 180, 4 at 270.
    # Probes: 1 at 10 and at 70 (nearer to 2), 2 at 95, 3 at 175, 4 at 316 (nearer to 1).
    vectors = circle(0, 90, 180, 270, 10, 70, 95, 175, 316)
    galleries = {
        "a": Templates(np.array([0, 1]), np.array([1, 2])),
        "b": Templates(np.array([2, 3]), np.array([3, 4])),
    }
    probes = Templates(np.arange(4, 9), np.array([1, 1, 2, 3, 4]))
    found = search_galleries(vectors, Search(galleries, probes))
    assert len(found.best_others) == 5 * 3  # and none from padded rows
    metrics = identification_metrics(found)
    # Merged: mates are first for 10, 95, 175; 70 and 316 have one other before.
    assert metrics.ranks[1].value == 0.6 and metrics.ranks[5].value == 1.0
    assert metrics.mated_probes == 5 and metrics.gallery == 4
    # Gallery a: without a mate are 175 (cosine to 90: .087) and 316 (to 0: .719). One of two may pass, so
    # the threshold is .087. Of 10, 70, 95, the first and the last are hits.
    # Gallery b: 10 (to 270: -.174), 70 (to 180: -.342), 95 (to 180: .087); one of three may pass: -.174.
    # 175 and 316 are both hits.
    assert metrics.tpir[0.5].value == pytest.approx((2 / 3 + 1) / 2)
    # Merged: the third highest of the non-mate scores .940 (70 to 90), .719 (316 to 0), .174 (10 to 90) is
    # the threshold; mates score .985, .342, .996, .996, .695: all above.
    assert metrics.merged[0.5].threshold.value == pytest.approx(math.cos(math.radians(80)), abs=1e-6)
    assert metrics.merged[0.5].tpir.value == 1.0


@given(seed=st.integers(0, 2**32 - 1), people=st.integers(3, 12), ties=st.booleans())
def test_against_loops(seed, people, ties):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((people, 4))
    subjects = np.concatenate([np.arange(people), rng.integers(0, people + 2, 40)])
    noise = rng.standard_normal((len(subjects), 4))
    vectors = np.where(subjects[:, None] < people, centres[np.minimum(subjects, people - 1)], 0) + noise
    if ties:
        vectors = np.sign(vectors)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    half = people // 2
    galleries = {
        "a": Templates(np.arange(half), np.arange(half)),
        "b": Templates(np.arange(half, people), np.arange(half, people)),
    }
    probes = Templates(np.arange(people, len(subjects)), subjects[people:])
    metrics = identification_metrics(search_galleries(vectors, Search(galleries, probes)))

    ranks = []
    for place, subject in zip(*probes, strict=True):
        scores = vectors[:people] @ vectors[place]
        if subject < people:
            others = np.delete(scores, subject)
            ranks.append(1 + (others >= scores[subject]).sum())
    for rank in (1, 5, 10):
        want = np.mean(np.array(ranks) <= rank) if ranks else None
        assert metrics.ranks[rank].value == (pytest.approx(want, abs=1e-6) if ranks else None)
    rates = []
    for members, _ in galleries.values():
        strangers, hits = [], []
        for place, subject in zip(*probes, strict=True):
            scores = vectors[members] @ vectors[place]
            if subject not in members:
                strangers.append(scores.max())
            else:
                others = np.append(scores[members != subject], -np.inf)
                hits.append((scores[members == subject][0], others.max()))
        allowed = math.floor(0.1 * len(strangers) + 1e-6)
        if allowed < 1 or not hits:
            rates.append(None)
        else:
            threshold = np.append(np.sort(strangers)[::-1], -np.inf)[allowed]
            rates.append(np.mean([mate > other and mate > threshold for mate, other in hits]))
    want = None if None in rates else pytest.approx(np.mean(rates), abs=1e-6)
    assert metrics.tpir[0.1].value == want


def test_a_probe_in_the_gallery_is_not_its_own_mate():
    """Templates 0 and 1 are of subject 1, template 2 of subject 2; all are probes, 0 and 2 in the gallery."""
    vectors = circle(0, 10, 90)
    listed = Templates(np.array([0, 2]), np.array([1, 2]))
    found = search_galleries(vectors, Search({"a": listed}, Templates(np.arange(3), np.array([1, 1, 2]))))
    assert found.mated().ravel().tolist() == [False, True, False]
    np.testing.assert_allclose(found.mate[1], math.cos(math.radians(10)), atol=1e-6)
    np.testing.assert_allclose(found.top[2], 0, atol=1e-6)


@pytest.fixture
def searched():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    galleries = {
        "a": Templates(np.arange(30), np.arange(30)),
        "b": Templates(np.arange(30, 60), np.arange(30, 60)),
    }
    return vectors, Search(galleries, Templates(np.arange(60, 300), np.arange(240) % 60))


def test_blocks_change_nothing(searched, monkeypatch):
    whole = identification_figures(identification_metrics(search_galleries(*searched)))
    monkeypatch.setattr(identification, "row_blocks", functools.partial(row_blocks, entries=500))
    parts = identification_figures(identification_metrics(search_galleries(*searched)))
    assert whole.keys() == parts.keys()
    assert flatten(parts) == pytest.approx(flatten(whole), abs=1e-6)


def test_a_draw_is_the_table_of_the_probes_drawn(searched):
    """Probes with weights give the same figures as copies of them."""
    vectors, search = searched
    times = np.random.default_rng(1).integers(0, 4, len(search.probes.positions))
    copies = Templates(*(np.repeat(column, times) for column in search.probes))
    wanted = identification_metrics(search_galleries(vectors, search._replace(probes=copies)))
    drawn = identification_metrics(search_galleries(vectors, search), times[None].astype(np.float32))
    figures = identification_figures(wanted)
    for name, figure in (open_and_closed_set(drawn) | merged_tpirs(drawn)).items():
        assert figure.draws == pytest.approx([figures[name].value]), name


def test_match_curve(searched):
    found = search_galleries(*searched)
    ranks, reached = match_curve(found)
    metrics = identification_metrics(found)
    assert ranks.tolist() == list(range(1, 21))
    for rank in (1, 5, 10):
        assert reached[ranks == rank] == pytest.approx(metrics.ranks[rank].value)
    assert match_curve(found, 60)[1][-1] == 1.0
    nobody = found._replace(mate=np.full_like(found.mate, -np.inf))
    assert match_curve(nobody)[1].tolist() == [0.0] * 20


def test_open_set_curve_by_hand():
    """Gallery a: two mated probes, of which one is a hit at .8; four others reach .9, .7, .7 and .1."""
    off = -np.inf
    mate = np.array([[0.8], [0.5], [off], [off], [off], [off]])
    top = np.array([[0.3], [0.6], [0.9], [0.7], [0.7], [0.1]])
    found = Outcomes(mate, top, np.ones(6), np.empty(0), np.empty(0, int), 2)
    fpir, tpir = open_set_curve(found)
    np.testing.assert_allclose(fpir, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(tpir, [0.5, 0.5, 0.5, 0.5])
    # As soon as nobody may be accepted, the threshold of .9 loses the hit; a tie at .7 is rejected whole.
    lower = mate - np.where(mate > 0.7, 0.2, 0)  # the hit is at .6
    np.testing.assert_allclose(open_set_curve(found._replace(mate=lower))[1], [0, 0, 0.5, 0.5])
    for nobody in (found._replace(mate=np.full((6, 1), off)), found._replace(mate=np.ones((6, 1)))):
        assert open_set_curve(nobody)[0].size == 0


def test_the_open_set_curve_passes_through_the_table(searched):
    found = search_galleries(*searched)
    fpir, tpir = open_set_curve(found, 10_000)
    figures = identification_metrics(found).tpir
    for target in (0.01, 0.1):
        last = np.searchsorted(fpir, target + 1e-9) - 1
        assert tpir[last] == pytest.approx(figures[target].value)
    assert (np.diff(fpir) > 0).all() and (np.diff(tpir) >= 0).all() and fpir[-1] == 1
    thin = open_set_curve(found, 10)
    assert 3 < len(thin[0]) <= 10 and set(thin[0]) <= set(fpir) and set(thin[1]) <= set(tpir)


@pytest.mark.slow
def test_intervals_cover_the_truth():
    """Coverage of the 95% intervals over 500 data sets with known true figures.

    Half of the subjects are in each of two galleries. Subjects vary in difficulty and in similarity to a
    gallery's entries, with normal scores around that. The best scores of each gallery and the scores of all
    entries, which decide the merged figures, are drawn independently.
    """
    people, each, entries, kept = 300, 8, 300, 2000
    spread, likeness, gap = 0.7, 0.3, 3.0
    mates, others = (statistics.NormalDist(0, np.sqrt(1 + extra**2)) for extra in (spread, likeness))
    grid = np.linspace(-8, 8, 20_001)  # of a mate's score; a sum over it is the integral
    density = np.vectorize(mates.pdf)(grid - gap) * (grid[1] - grid[0])
    below = np.vectorize(others.cdf)(grid)
    truth = {"rank@1": density @ below**2}
    truth |= {
        f"tpir@fpir=1e-{digits}": density @ (below * (grid > others.inv_cdf(1 - 10**-digits)))
        for digits in (1, 2)
    }
    truth |= {
        f"merged_tpir@fpir=1e-{digits}": 1 - mates.cdf(others.inv_cdf(1 - 10**-digits / entries) - gap)
        for digits in (1, 2)
    }
    subjects = np.repeat(np.arange(people), each)
    enrolled = subjects[:, None] % 2 == np.arange(2)
    covered = dict.fromkeys(truth, 0)
    for number in range(500):
        rng = np.random.default_rng([8, number])
        ease, alike = rng.standard_normal(people), rng.standard_normal((people, 2))
        scores = gap + spread * ease[subjects] + rng.standard_normal(len(subjects))
        mate = np.where(enrolled, scores[:, None], -np.inf)
        top = likeness * alike[subjects] + rng.standard_normal(mate.shape)
        rank = np.where(scores > top.max(1), 1, 2)
        every = rng.standard_normal((len(subjects), entries), np.float32) + likeness * alike[subjects, :1]
        best = np.argpartition(-every.ravel(), kept)[:kept]
        best = best[np.argsort(-every.ravel()[best])]
        draws = SubjectDraws(subjects, 200, seed=number)
        found = Outcomes(mate, top, rank, every.ravel()[best], best // entries, entries)
        drawn = identification_metrics(found, draws.weights[:, draws.codes])
        figures = identification_figures(drawn)
        for name, value in truth.items():
            low, high = figures[name].interval
            covered[name] += low <= value <= high
    print({name: count / 500 for name, count in covered.items()})
    assert all(0.92 <= count / 500 <= 0.98 for count in covered.values()), covered


@pytest.mark.parametrize("template", [6, 8, 10])
def test_a_template_without_faces(template):
    with pytest.raises(InputError, match=f"gallery G1: template {template} has no faces"):
        search_protocol({"G1": np.array([[template, 1]])}, np.array([[7, 1]]), np.array([7, 9]))


@pytest.mark.parametrize("shift", [0, -0.5, -1])  # cosines may be negative
def test_nearest_convention_by_hand(shift):
    """Six impostors and four genuine; the ROC turns at some scores only."""
    scores = shift + np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.2, 0.1])
    same = np.array([1, 1, 0, 1, 0, 0, 0, 1, 0, 0], bool)
    # Vertices (FAR, TAR): (0, 0) (0, 1/2) (1/6, 1/2) (1/6, 3/4) (4/6, 3/4) (4/6, 1) (1, 1); those between
    # collinear neighbours are dropped, so 2/6 and 3/6 are not there.
    points = nearest_operating_points(scores, same, (0.01, 0.2, 0.4, 0.45, 0.9))
    assert [point.tar for point in points] == [0.5, 0.75, 0.75, 1.0, 1.0]
    np.testing.assert_allclose([point.achieved_far for point in points], [0, 1 / 6, 1 / 6, 4 / 6, 1])
    for point in points:
        assert np.mean(scores[~same] > point.threshold) == pytest.approx(point.achieved_far)
        assert np.mean(scores[same] > point.threshold) == pytest.approx(point.tar)


def test_where_an_impostor_scores_highest_the_nearest_point_accepts_nothing():
    scores, same = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 1, 1, 0], bool)
    (point,) = nearest_operating_points(scores, same, (0.01,))
    assert (point.tar, point.achieved_far) == (0, 0) and point.threshold >= 0.9
