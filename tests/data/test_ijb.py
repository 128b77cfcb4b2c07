"""IJB's official files are read with every format of features; invalid ones give one clear line."""

import dataclasses
import json
import os
import pathlib
import pickle

import numpy as np
import pytest

from fpsset.data.feature_table import UNKNOWN_SUBJECT, templates
from fpsset.data.files import write_features
from fpsset.data.ijb import read_ijb
from fpsset.data.numpy_pickle import read_numpy_pickle
from fpsset.data.pair_lists import read_pairs
from fpsset.errors import InputError
from fpsset.evaluation.identification import identification_metrics, search_galleries, search_protocol
from fpsset.evaluation.pooling_protocols import pool_by
from fpsset.evaluation.protocols import make_protocol
from fpsset.evaluation.scoring import pair_scores
from fpsset.evaluation.verification import listed_pairs, nearest_operating_points
from fpsset.inference.descriptors import describe
from fpsset.models.pooling import baselines

DIM = 6
FACES = "1.jpg 7 70\n2.jpg 7 71\n3.jpg 9 72\n4.jpg 12 73\n"


@pytest.fixture
def folder(tmp_path):
    """Four faces, three templates, two people, one of them in the gallery."""
    meta = tmp_path / "IJBC/meta"
    meta.mkdir(parents=True)
    (meta / "ijbc_face_tid_mid.txt").write_text(FACES)
    (meta / "ijbc_template_pair_label.txt").write_text("7 9 1\n7 12 0\n")
    (meta / "ijbc_1N_gallery_G1.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n7,500,x\n7,500,y\n")
    (meta / "ijbc_1N_gallery_G2.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n12,501,x\n")
    (meta / "ijbc_1N_probe_mixed.csv").write_text("TEMPLATE_ID,SUBJECT_ID,FILENAME\n9,500,x\n")
    return tmp_path / "IJBC"


def columns():
    rng = np.random.default_rng(0)
    unit = rng.standard_normal((4, DIM)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit, np.float32([3, 1, 4, 2])


def write(folder: pathlib.Path, form: str) -> None:
    unit, norms = columns()
    official = {"img_feats": unit, "norms": norms[:, None], "faceness_scores": np.ones(4)}
    beside = folder.parent / "IJBC-features"
    match form:
        case "npy":
            np.save(folder / "features.npy", unit * norms[:, None])
        case "npz":
            np.savez(f"{beside}.npz", **official)
        case "own npz" | "parquet":
            write(folder, "npy")
            table = read_ijb(folder).table
            (folder / "features.npy").unlink()
            write_features(f"{beside}.{form.split()[-1]}", table)
        case protocol:
            with open(f"{beside}.pickle", "wb") as file:
                pickle.dump(official, file, protocol=int(protocol))


@pytest.mark.parametrize("form", ["0", "1", "2", "3", "4", "5", "npz", "npy", "own npz", "parquet"])
def test_every_format_of_features_is_read(folder, form):
    write(folder, form)
    found = read_ijb(folder)
    unit, norms = columns()
    np.testing.assert_allclose(found.table.embeddings, unit, atol=1e-3)
    np.testing.assert_allclose(found.table.norms, norms, rtol=1e-5)
    np.testing.assert_array_equal(found.table.template, [7, 7, 9, 12])
    np.testing.assert_array_equal(found.table.media, [70, 71, 72, 73])
    np.testing.assert_array_equal(found.table.subject, [500, 500, 500, 501])
    np.testing.assert_array_equal(found.search.galleries["G1"], [[7, 500]])
    np.testing.assert_array_equal(found.search.galleries["G2"], [[12, 501]])
    np.testing.assert_array_equal(found.search.probes, [[9, 500]])
    assert found.pairs_file.name == "ijbc_template_pair_label.txt"
    assert "4 faces, but the official set has 469375" in found.note
    assert len(read_ijb(folder / "meta", str(next(folder.parent.rglob("*features*")))).table) == 4


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_mirrored_features_and_scores_reach_the_pooling(folder, suffix):
    """Published protocols pool by them. A landmark list overrides the scores of the features."""
    write(folder, "npy")
    rng = np.random.default_rng(1)
    flipped, score = rng.standard_normal((4, DIM)).astype(np.float16), rng.uniform(size=4).astype(np.float32)
    table = dataclasses.replace(read_ijb(folder).table, flipped=flipped.astype(np.float32), score=score)
    (folder / "features.npy").unlink()
    write_features(folder / f"features.{suffix}", table)
    found = read_ijb(folder).table
    np.testing.assert_array_equal(found.flipped, flipped)
    np.testing.assert_array_equal(found.score, score)
    protocol = make_protocol(found)
    pooled, sets = pool_by("insightface", protocol.sets, protocol.score, protocol.flipped, found.name)
    total = ((found.norms[:, None] * found.embeddings + flipped) * score[:, None])[:2].sum(0)
    vectors = describe({"pooled": pooled}, {}, sets)["pooled"].vectors
    np.testing.assert_allclose(vectors[0], total / np.linalg.norm(total), atol=1e-5)
    marks = "".join(f"{line.split()[0]} {'1 ' * 10}0.5\n" for line in FACES.splitlines())
    (folder / "meta/ijbc_name_5pts_score.txt").write_text(marks)
    assert (read_ijb(folder).table.score == 0.5).all()


def test_subjects_are_unknown_without_1n_lists(folder):
    write(folder, "npz")
    for file in (folder / "meta").glob("*.csv"):
        file.unlink()
    found = read_ijb(folder)
    assert found.search is None and (found.table.subject == UNKNOWN_SUBJECT).all()
    ids, subjects, _ = templates(found.table)
    pairs = listed_pairs(found.pairs_file, ids, subjects)
    assert pairs.same.tolist() == [True, False]  # from the pair list, as subjects are unknown


@pytest.mark.parametrize(
    "file, text, problem",
    [
        ("meta/ijbc_face_tid_mid.txt", None, "holds no *_face_tid_mid.txt"),
        ("meta/ijbc_face_tid_mid.txt", FACES[:-10], "line 4 has"),
        ("meta/ijbc_face_tid_mid.txt", FACES.replace("70", "seventy"), "line 1: invalid literal"),
        ("meta/ijbc_face_tid_mid.txt", FACES.replace("72", "7.2"), "face_tid_mid.txt: line 3: invalid"),
        ("meta/ijbc_face_tid_mid.txt", FACES.replace("72", "9" * 30), "line 3: "),
        ("meta/ijbc_face_tid_mid.txt", FACES + "5.jpg 1 1\n", "has 4 rows but"),
        ("meta/ijbc_template_pair_label.txt", None, "holds no *_template_pair_label.txt"),
        ("meta/ijbc_1N_gallery_G1.csv", "T,S\n", "lists no template"),
        ("meta/ijbc_1N_gallery_G1.csv", "T,S\n7\n", "line 2 is not 'template,subject,...'"),
        ("meta/ijbc_1N_gallery_G1.csv", "T,S\nseven,500\n", "line 2 is not 'template,subject,...'"),
        ("meta/ijbb_face_tid_mid.txt", FACES, "holds 2 files"),
    ],
)
def test_a_malformed_list_is_refused(folder, file, text, problem):
    write(folder, "2")
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    with pytest.raises(InputError) as error:
        read_ijb(folder)
    assert problem in str(error.value)


def test_everything_missing_is_reported_at_once(tmp_path):
    """The message says what was looked for, where to get it, and how to do without it."""
    with pytest.raises(InputError) as error:
        read_ijb(tmp_path / "IJBB")
    for words in (
        *("*_face_tid_mid.txt", "*_template_pair_label.txt", "*_1N_*.csv", "*features*.pickle"),
        *("NIST", "not freely available", "InsightFace", "fpsset extract", "config.data.eval_features"),
        f"fpsset simulate-ijb {tmp_path}/IJBB --like ijbb",
    ):
        assert words in str(error.value).replace("neither of which is freely", "not freely")


def test_invalid_features_are_refused(folder):
    with pytest.raises(InputError, match=r"holds no features \(\*features\*\.pickle, .*eval_features=FILE"):
        read_ijb(folder)
    unit, norms = columns()
    features = folder / "features.npz"
    np.savez(features, norms=norms)
    with pytest.raises(InputError, match="has no array 'embeddings' or 'img_feats'"):
        read_ijb(folder)
    np.savez(features, embeddings=unit, norms=norms, paths=np.array(["1.jpg", "3.jpg", "2.jpg", "4.jpg"]))
    with pytest.raises(InputError, match=r"row 1 is 3\.jpg, but .* has 2\.jpg there"):
        read_ijb(folder)
    np.savez(features, embeddings=np.where(np.arange(4)[:, None] == 2, np.nan, unit), norms=norms)
    with pytest.raises(InputError, match="row 2 of 'embeddings'"):
        read_ijb(folder)
    (folder / "bad.npy").write_text("x")
    with pytest.raises(InputError, match=r"bad\.npy: cannot be read"):
        read_ijb(folder, str(folder / "bad.npy"))


class Reduce:
    def __init__(self, *reduced):
        self._reduced = reduced

    def __reduce__(self):
        return self._reduced


def test_a_hostile_pickle_executes_nothing(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "features.pickle"
    array = np.arange(3.0)
    for content in (
        Reduce(os.system, (f"touch {marker}",)),
        {"img_feats": Reduce(eval, (f"open({str(marker)!r}, 'w')",))},
        {"img_feats": np.array([Reduce(os.system, (f"touch {marker}",))], object)},
        {"img_feats": np.array(["text"])},
        {"img_feats": Reduce(np.load, (str(path),))},
        {"img_feats": 3},
        array,
        [array],
    ):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(
            InputError,
            match=r"features\.pickle: is (a pickle that cannot|not a dict of)",
        ):
            read_numpy_pickle(path)
        assert not marker.exists()
    whole = pickle.dumps({"a": array})
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_numpy_pickle(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_numpy_pickle(tmp_path / "none.pickle")


def test_results_match_the_official_evaluation(shared):
    """Golden values of the official code, under its conventions."""
    root = shared / "parity/ijb_mini"
    expected = json.loads((root / "expected.json").read_text())
    found = read_ijb(root / "IJBC")
    ids, subjects, sets = templates(found.table)
    described = describe({name: baselines()[name] for name in ("norm_weighted", "media_mean")}, {}, sets)
    pairs = listed_pairs(found.pairs_file, ids, subjects)
    points = nearest_operating_points(pair_scores(described["norm_weighted"].vectors, pairs), pairs.same)
    ours = {f"{point.far:.0e}".replace("e-0", "e-"): round(100 * point.tar, 2) for point in points}
    assert ours == expected["tar_at_far_percent"]
    search = search_protocol(found.search.galleries, found.search.probes, ids)
    metrics = identification_metrics(search_galleries(described["media_mean"].vectors, search))
    for rank in (1, 5, 10):
        assert metrics.ranks[rank].value == pytest.approx(expected["identification"][f"top{rank}"], abs=1e-6)
    for line in expected["log"]:
        fields = line.split()
        point = metrics.merged[float(fields[2])]
        assert point.tpir.value == pytest.approx(float(fields[5]), abs=1e-6)
        assert point.threshold.value == pytest.approx(float(fields[8]), abs=1e-6)


def test_a_search_list_may_lack_its_header(folder):
    write(folder, "npz")
    expected = read_ijb(folder).search
    for file in (folder / "meta").glob("*_1N_*.csv"):
        file.write_text(file.read_text().partition("\n")[2])
    found = read_ijb(folder).search
    np.testing.assert_array_equal(found.probes, expected.probes)
    assert {name: rows.tolist() for name, rows in found.galleries.items()} == {
        name: rows.tolist() for name, rows in expected.galleries.items()
    }


def test_lists_may_begin_with_a_mark(folder):
    write(folder, "npz")
    expected = read_ijb(folder)
    pairs = read_pairs(expected.pairs_file)
    for file in [*(folder / "meta").glob("*.txt"), *(folder / "meta").glob("*.csv")]:
        file.write_text(f"\ufeff{file.read_text()}")
    found = read_ijb(folder)
    np.testing.assert_array_equal(found.table.template, expected.table.template)
    np.testing.assert_array_equal(found.search.probes, expected.search.probes)
    np.testing.assert_array_equal(read_pairs(found.pairs_file).templates, pairs.templates)
