"""Simulated IJB has the official counts and layout, and the reader of the official files reads it."""

import json
import re

import numpy as np
import pytest

from fpsset.commands.cli import main
from fpsset.data.feature_table import templates
from fpsset.data.files import read_features
from fpsset.data.ijb import read_ijb
from fpsset.data.simulated_ijb import OFFICIAL, _scaled, simulate_ijb
from fpsset.errors import InputError
from fpsset.evaluation.identification import identification_metrics, search_galleries, search_protocol
from fpsset.evaluation.scoring import pair_scores
from fpsset.evaluation.verification import listed_pairs, operating_points
from fpsset.inference.descriptors import describe
from fpsset.models.pooling import baselines
from tests.commands.lines import refused

SCALE, DIM = 0.02, 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("ijb") / "IJBC"
    assert main(["simulate-ijb", str(path), "--scale", str(SCALE), "--dim", str(DIM)]) == 0
    return path


@pytest.mark.parametrize("as_json", [False, True])
def test_faces_of_other_people_to_train_on(tmp_path, capsys, as_json):
    out, train = tmp_path / "IJBC", tmp_path / "train.npz"
    line = ["simulate-ijb", str(out), "--scale", "0.001", "--dim", "4", f"--train={train}"]
    assert main([*line, "--json"] if as_json else line) == 0
    said = capsys.readouterr().out
    templates = json.loads(said)["templates"] if as_json else int(re.search(r"(\d+) templates", said)[1])
    assert templates == len(np.unique(read_ijb(out).table.template))
    assert len(np.unique(read_features(train).subject)) == 2000
    assert as_json or said.endswith(f"{train}: faces of 2000 other people\n")
    again = ["simulate-ijb", str(tmp_path / "again"), f"--train={train}"]
    assert "train.npz: exists already" in refused(capsys, *again)
    assert not (tmp_path / "again").exists()


def test_counts_at_full_scale_are_the_official_ones():
    for (_, official), faces, pairs in zip(
        OFFICIAL.values(), (227_630, 469_375), (8_010_270, 15_658_489), strict=True
    ):
        counts = _scaled(official, 1.0)
        assert counts == official and (counts.faces, counts.pairs) == (faces, pairs)


def test_the_files_have_the_layout_and_the_scaled_counts(folder):
    counts = _scaled(OFFICIAL["ijbc"][1], SCALE)
    found = read_ijb(folder)
    ids, subjects, sets = templates(found.table)
    assert (len(found.table), len(ids), len(np.unique(subjects))) == (
        counts.faces,
        counts.templates,
        counts.subjects,
    )
    pairs = listed_pairs(found.pairs_file, ids, subjects)
    assert (len(pairs.same), int(pairs.same.sum())) == (counts.pairs, counts.genuine)
    listed = np.stack([pairs.first, pairs.second], 1)
    assert len(np.unique(listed, axis=0)) == counts.pairs
    search = found.search
    assert [len(rows) for rows in search.galleries.values()] == [
        counts.first_gallery,
        counts.subjects - counts.first_gallery,
    ]
    assert len(search.probes) == counts.templates - counts.subjects
    sizes = sets.sizes()
    assert sizes.min() == 1 and sizes.max() > 10 * np.median(sizes)  # a long tail
    assert (np.diff(np.sort(ids)) > 1).any()  # ids are not contiguous
    spans = np.unique(np.stack([found.table.media, found.table.template], 1), axis=0)
    assert len(np.unique(spans[:, 0])) == len(spans)  # no medium in two templates


def test_accuracy_is_plausible_for_faces(folder):
    found = read_ijb(folder)
    ids, subjects, sets = templates(found.table)
    vectors = describe({"media_mean": baselines()["media_mean"]}, {}, sets)["media_mean"].vectors
    pairs = listed_pairs(found.pairs_file, ids, subjects)
    (point,) = operating_points(pair_scores(vectors, pairs), pairs.same, (1e-2,))
    assert 0.3 < point.tar < 1
    search = search_protocol(found.search.galleries, found.search.probes, ids)
    metrics = identification_metrics(search_galleries(vectors, search))
    assert 0.3 < metrics.tpir[1e-2].value <= metrics.tpir[1e-1].value <= metrics.ranks[10].value <= 1


def test_a_seed_repeats_the_files(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate_ijb(tmp_path / name, "ijbb", 0.004, seed, 8)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) == 6
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    features = "IJBB-features.pickle"
    assert (tmp_path / "a" / features).read_bytes() != (tmp_path / "c" / features).read_bytes()


def test_invalid_arguments_are_refused(tmp_path, folder):
    with pytest.raises(InputError, match="exists"):
        simulate_ijb(folder)
    for fields, problem in (({"like": "lfw"}, "'lfw'"), ({"scale": 0.0}, "scale 0"), ({"dim": 1}, "dim 1")):
        with pytest.raises(InputError, match=problem):
            simulate_ijb(tmp_path / "x", **fields)
    assert not list(tmp_path.iterdir())
