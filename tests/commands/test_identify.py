"""fpsset identify and simulate-search, from lists to a report, and bad input."""

import json

import numpy as np
import pytest

from fpsset.commands.cli import main
from fpsset.data.files import read_features, write_features
from tests.commands.lines import refused


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    root = tmp_path_factory.mktemp("searches")
    for like, scale in (("tinyface", 0.005), ("ijbs", 0.02)):
        arguments = ["simulate-search", root / like, "--like", like, "--scale", scale, "--dim", 16]
        assert main(list(map(str, arguments))) == 0
    features = root / "ijbs/features.npz"
    table = read_features(features)
    few = [np.flatnonzero(table.media == medium)[:4] for medium in np.unique(table.media)]
    write_features(features, table.take(np.concatenate(few)))  # sets of few sizes, which compile sooner
    return root


def run(capsys, *arguments) -> str:
    capsys.readouterr()
    assert main(["identify", *map(str, arguments), "--resamples", "10"]) == 0
    return capsys.readouterr().out


def test_tinyface(simulated, capsys, tmp_path):
    lists, features = simulated / "tinyface", simulated / "tinyface/features.npz"
    out = run(capsys, "tinyface", lists, features, "--workdir", tmp_path)
    assert "mean_ap" in out and "rank" in out and "index.html: written" in out
    assert all(len(line) <= 80 for line in out.splitlines()[:-1])  # the last is a path
    results = json.loads((tmp_path / "results.json").read_text())["identification"]
    assert set(results) == {"mean", "norm_weighted", "media_mean", "fps", "fpsset"}
    figures = results["mean"]
    assert 0 < figures["rank@1"] <= figures["rank@5"] <= figures["rank@20"] <= 1
    assert figures["tpir@fpir=1e-2"] is None and figures["mean_ap_low"] <= figures["mean_ap"]
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == [
        *("cmc_identification.png", "identification.csv", "identification.tex", "identification.txt"),
        "index.html",
    ]


def test_ijbs(simulated, capsys, tmp_path):
    lists, features = simulated / "ijbs", simulated / "ijbs/features.npz"
    (tmp_path / "report").mkdir()
    (tmp_path / "report/mine.txt").write_text("mine")
    for _ in range(2):  # the second replaces the first, and what is the user's stays
        out = run(capsys, "ijbs", lists, features, "--workdir", tmp_path, "--model", "mean", "--json")
    tasks = json.loads(out)["tasks"]
    assert tasks == json.loads((tmp_path / "results.json").read_text())
    assert list(tasks) == [
        *("surveillance_to_single", "surveillance_to_booking", "multi_view_surveillance_to_booking"),
        *("surveillance_to_surveillance", "uav_surveillance_to_booking"),
    ]
    for methods in tasks.values():
        figures = methods["fpsset"]
        assert figures == methods["mean"]
        assert figures["retrieval@1"] <= figures["retrieval@10"]
        found = figures["rank@1"] * figures["mated_probes"]
        assert figures["retrieval@1"] * figures["listed_mated_probes"] == pytest.approx(found)
    page = (tmp_path / "report/index.html").read_text()
    assert "Multi view surveillance to booking" in page and page.count("<img") == 10
    assert (tmp_path / "report/mine.txt").read_text() == "mine"


def test_bad_input(simulated, capsys, tmp_path):
    lists, features = simulated / "tinyface", simulated / "tinyface/features.npz"
    assert "no such folder" in refused(capsys, "identify", "tinyface", tmp_path / "no", features)
    assert "cs6_metadata.csv: no such file" in refused(capsys, "identify", "ijbs", lists, features)
    assert "--resamples is -1" in refused(capsys, "identify", "ijbs", lists, features, "--resamples", -1)
    assert "no such model" in refused(capsys, "identify", "tinyface", lists, features, "--model", "nobody")
    assert "exists already" in refused(capsys, "simulate-search", lists)
