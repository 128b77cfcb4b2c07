"""Names of figures, and the layout of results.json."""

import numpy as np

from fpsset.evaluation.metric_names import far_name, far_of, limit_names, tar_name, to_json
from fpsset.evaluation.resampling import Estimate, Interval, estimate
from fpsset.evaluation.results import (
    ErrorsByStratum,
    Evaluation,
    Identification,
    MergedPoint,
    Stratum,
    Verification,
    VerificationPoint,
)
from fpsset.evaluation.verification import FARS

DRAWN, NONE = Estimate(0.5, Interval(0.25, 0.75)), Estimate(None)


def test_names():
    assert [far_name(far) for far in FARS] == ["1e-1", "1e-2", "1e-3", "1e-4", "1e-5", "1e-6"]
    assert [far_of(tar_name(far)) for far in FARS] == list(FARS)
    assert limit_names("tar@far=1e-3") == ("tar_low@far=1e-3", "tar_high@far=1e-3")
    assert limit_names("eer") == ("eer_low", "eer_high")


def test_an_estimate_and_its_differences():
    ours = estimate(0.9, np.array([0.8, 0.9, np.nan]))
    difference = ours - estimate(0.5, np.array([0.5, 0.5, 0.5]))
    assert ours.interval == tuple(np.percentile([0.8, 0.9], [2.5, 97.5]))
    assert np.isclose(difference.value, 0.4) and np.isnan(difference.draws[2])
    assert estimate(None, np.ones(3)) == estimate(np.nan) == NONE and estimate(1.0).interval is None


def test_an_estimate_as_text():
    assert str(Estimate(0.954, Interval(0.9023, 0.98861))) == "0.9540 (0.9023 to 0.9886)"
    assert (str(Estimate(0.5)), str(NONE)) == ("0.5000", "-")


def test_sixteen_impostors_decide_far_1e_6_of_ijb_c():
    for convention, accepted in (("conservative", 15), ("nearest", 16)):
        points = {1e-6: VerificationPoint(NONE, NONE, accepted / 15_638_932)}
        found = Verification(2, 2, 1, 15_638_932, convention, NONE, NONE, points)
        assert (found.accepted_impostors(1e-6), found.deciding_impostors(1e-6)) == (accepted, 16)


def test_results_json():
    points = {1e-1: VerificationPoint(DRAWN, DRAWN, 0.1), 1e-6: VerificationPoint(NONE, NONE, None)}
    strata = {"a": Stratum(DRAWN, 3)}
    results = to_json(
        Evaluation(
            {"fpsset": Verification(4, 8, 4, 24, "nearest", DRAWN, DRAWN, points)},
            {"fpsset": Identification(4, 3, 2, {1: DRAWN}, {1e-1: NONE}, {1e-1: MergedPoint(DRAWN, DRAWN)})},
            {"fpsset": ErrorsByStratum(1e-2, {0.05: Stratum(NONE, 0)}, {}, strata, strata)},
            {"fpsset - mean": {"eer": DRAWN}},
            curves={},
            fingerprints={},
            resamples=5,
            seed=7,
        )
    )
    ends = {"low": 0.25, "high": 0.75}
    assert results["verification"]["fpsset"] == {
        **{"subjects": 4, "templates": 8, "genuine_pairs": 4, "impostor_pairs": 24, "convention": "nearest"},
        **{f"{name}@far=1e-1": 0.5 for name in ("tar", "threshold")},
        **{f"{name}_{end}@far=1e-1": ends[end] for name in ("tar", "threshold") for end in ends},
        **{f"{name}@far=1e-6": None for name in ("tar", "threshold", "achieved_far")},
        **{"achieved_far@far=1e-1": 0.1, "eer": 0.5, "auc": 0.5},
        **{f"{name}_{end}": ends[end] for name in ("eer", "auc") for end in ends},
        **{"resamples": 5, "resampling_seed": 7},
    }
    assert results["identification"]["fpsset"] == {
        **{"probes": 4, "mated_probes": 3, "gallery": 2, "rank@1": 0.5, "tpir@fpir=1e-1": None},
        **{f"merged_{name}@fpir=1e-1": 0.5 for name in ("tpir", "threshold")},
        **{"rank_low@1": 0.25, "rank_high@1": 0.75},
        **{f"merged_{name}_{end}@fpir=1e-1": ends[end] for name in ("tpir", "threshold") for end in ends},
    }
    assert results["quality"]["fpsset"] == {
        **{"far": "1e-2", "frr_by_input_norm@discard=0.05": None},
        "genuine_pairs_by_input_norm@discard=0.05": 0,
        **{f"tar@{kind}=a": 0.5 for kind in ("size", "video")},
        **{f"genuine_pairs@{kind}=a": 3 for kind in ("size", "video")},
        **{f"tar_{end}@{kind}=a": ends[end] for kind in ("size", "video") for end in ends},
    }
    assert results["paired"] == {"fpsset - mean": {"eer": 0.5, "eer_low": 0.25, "eer_high": 0.75}}
