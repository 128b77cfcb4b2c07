"""thresholds.json: what is damaged in it is told, and files of 0.1 are read."""

import dataclasses
import json

import pytest

from fpsset.errors import InputError
from fpsset.evaluation.calibration import Calibration, read_threshold, save_threshold
from fpsset.evaluation.resampling import Estimate, Interval
from tests.damage import bits

FOUND = Calibration(
    far=0.01,
    threshold=Estimate(0.408, Interval(0.35, 0.47)),
    tar=Estimate(0.9, Interval(0.8, 0.95)),
    achieved_far=0.0099,
    accepted_impostors=11,
    impostor_pairs=1104,
    genuine_pairs=50,
    subjects=24,
    resamples=1000,
    resampling_seed=0,
    data="faces.npz",
    data_fingerprint="0123456789abcdef",
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "thresholds.json"
    save_threshold(path, "aaaa", FOUND)
    save_threshold(path, "aaaa", dataclasses.replace(FOUND, far=0.1))
    return path


def test_single_bits_and_cuts_are_refused_or_change_nothing(path):
    outcomes = {"refused": 0, "equal": 0}
    for what in bits(path, 200, seed=0):
        try:
            assert read_threshold(path, "aaaa", 0.01) == FOUND, what
            outcomes["equal"] += 1
        except InputError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error), what
            outcomes["refused"] += 1
    assert outcomes["refused"] > 200
    assert read_threshold(path, "aaaa", 0.01) == FOUND


def test_another_threshold_is_told_and_not_calibrated_away(path):
    path.write_text(path.read_text().replace("0.408", "1.408"))
    message = "thresholds.json: differs from what was saved .*; delete it and calibrate again"
    with pytest.raises(InputError, match=message):
        read_threshold(path, "aaaa", 0.01)
    with pytest.raises(InputError, match=message):
        save_threshold(path, "aaaa", FOUND)


def test_a_file_without_a_seal_is_read_if_it_is_one_of_0_1(path):
    held = json.loads(path.read_text())
    old = {"format": 1, "model": held["model"], "thresholds": held["thresholds"]}
    path.write_text(json.dumps(old))
    assert read_threshold(path, "aaaa", 0.1).far == 0.1

    def entry(**change):
        return old | {"thresholds": {"0.01": old["thresholds"]["0.01"] | change}}

    for other, problem in [
        (old | {"format": 2}, "has no seal"),
        (old | {"seal": held["seal"]}, "differs from what was saved"),
        (old | {"more": 1}, "holds no thresholds of fpsset"),
        ({k: v for k, v in old.items() if k != "model"}, "holds no thresholds of fpsset"),
        (entry(threshold=1.408), r"holds no thresholds of fpsset \('threshold' is 1.408\)"),
        (entry(far=0.1), "'0.01' is the name of another FAR"),
        (entry(threshold_low="a"), "'threshold_low' is 'a'"),
        (entry(data=3), "'data'"),
        (entry(unknown=3), "unknown"),
    ]:
        path.write_text(json.dumps(other))
        with pytest.raises(InputError, match=problem):
            read_threshold(path, "aaaa", 0.01)
