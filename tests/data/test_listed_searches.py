"""TinyFace's and IJB-S's lists: which faces form which template, and what is refused."""

import dataclasses

import numpy as np
import pytest
import scipy.io

from fpsset.data.feature_table import UNKNOWN_SUBJECT, FeatureTable
from fpsset.data.files import read_features
from fpsset.data.ijbs import read_ijbs
from fpsset.data.simulated_searches import simulate_search
from fpsset.data.tinyface import read_tinyface
from fpsset.errors import InputError

GALLERY_LIST, PROBE_LIST = "gallery_match_img_ID_pairs.mat", "probe_img_ID_pairs.mat"


def table(paths) -> FeatureTable:
    count = len(paths)
    vectors = np.eye(max(count, 2), dtype=np.float32)[:count]
    ids = np.arange(count)
    return FeatureTable(vectors, np.ones(count, np.float32), ids, ids, paths=np.array(paths), name="f.npz")


def write_mat(path, kind, names, people):
    """A list as MATLAB writes it: a column of cells, and a column of numbers."""
    cells = np.array(names, object)[:, None]
    scipy.io.savemat(path, {f"{kind}_set": cells, f"{kind}_ids": np.array(people, np.uint16)[:, None]})


@pytest.fixture
def tiny(tmp_path):
    folder = tmp_path / "Testing_Set"
    folder.mkdir()
    write_mat(folder / GALLERY_LIST, "gallery", ["7_a.jpg", "9_a.jpg", "7_b.jpg"], [7, 9, 7])
    write_mat(folder / PROBE_LIST, "probe", ["9_p.jpg", "7_p.jpg"], [9, 7])
    return tmp_path


TINY = [
    *("Probe/7_p.jpg", "x/Gallery_Distractor/1.jpg", "x/Gallery_Match/7_b.jpg"),
    *("Gallery_Match/9_a.jpg", "Gallery_Match/7_a.jpg", "Probe/9_p.jpg", "Gallery_Distractor/2.jpg"),
]


def test_tinyface(tiny):
    for folder in (tiny, tiny / "Testing_Set"):
        found = read_tinyface(folder, table(TINY))
        (task,) = found.tasks.values()
        assert found.sets.sizes().tolist() == [1] * 7 and found.ranks == (1, 5, 20) and found.mean_precision
        # Gallery 7_a, 9_a, 7_b, then the probes 9_p and 7_p, then both distractors.
        assert found.sets.rows.tolist() == [4, 3, 2, 5, 0, 1, 6]
        assert found.subjects.tolist() == [7, 9, 7, 9, 7, UNKNOWN_SUBJECT, UNKNOWN_SUBJECT]
        assert task.galleries["gallery"].tolist() == [0, 1, 2, 5, 6] and task.probes.tolist() == [3, 4]


def test_tinyface_refuses(tiny):
    folder = tiny / "Testing_Set"

    def says(words, paths=TINY):
        with pytest.raises(InputError, match=words) as error:
            read_tinyface(tiny, table(paths))
        assert "\n" not in str(error.value)

    says(r"lacks 1 of the 2 images that .*probe_img.* lists, e.g. Probe/9_p\.jpg", TINY[:5])
    says(r"f\.npz: holds Probe/7_p\.jpg twice", [*TINY, "Probe/7_p.jpg"])
    with pytest.raises(InputError, match="no column 'paths'"):
        read_tinyface(tiny, dataclasses.replace(table(TINY), paths=None))
    write_mat(folder / PROBE_LIST, "probe", ["9_p.jpg", "7_p.jpg"], [9])
    says("must list as many image names as people's numbers")
    write_mat(folder / PROBE_LIST, "gallery", ["9_p.jpg"], [9])
    says("has no variable 'probe_set'")
    (folder / PROBE_LIST).write_bytes(b"MATLAB 5.0 MAT-file, but not really" * 9)
    says("probe_img_ID_pairs.mat: cannot be read as a MATLAB file")
    (folder / PROBE_LIST).unlink()
    says("probe_img_ID_pairs.mat: no such file")


@pytest.fixture
def ijbs(tmp_path):
    """Persons 1 and 2 in video 5, 1 in video 6, 2 in video 7; two images of each."""
    (tmp_path / "galleries").mkdir()
    lines = ["1,videos/5.mp4", "2,videos/5.mp4", "1,videos/5.mp4", "1,videos/6.mp4", "2,videos/7.mp4"]
    lines += ["1,img/1.jpg", "1,img/2.jpg", "2,img/3.jpg", "2,img/4.jpg"]
    lists = {
        "cs6_metadata": lines,
        "cs6_surveillance_to_single-booking_probe": ["videos/5.mp4", "videos/6.mp4"],
        "cs6_surveillance_to_surveillance_probe": ["videos/5.mp4"],
        "galleries/cs6_surveillance_to_single_g1": ["11,1,img/1.jpg"],
        "galleries/cs6_surveillance_to_single_g2": ["12,2,img/3.jpg"],
        "galleries/cs6_surveillance_to_booking_g1": ["21,1,img/1.jpg", "21,1,img/2.jpg"],
        "galleries/cs6_surveillance_to_booking_g2": ["22,2,img/3.jpg", "22,2,img/4.jpg"],
        "galleries/cs6_surveillance_to_surveillance_g1": ["31,1,videos/6.mp4", "31,1,videos/6.mp4"],
        "galleries/cs6_surveillance_to_surveillance_g2": ["32,2,videos/7.mp4"],
    }
    for name, rows in lists.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(["A,B,C", *rows, ""]))
    return tmp_path


# Of person 1: two frames of video 5, one of 6, both images. Of person 2: none in video 5, one in 7, an image.
SEEN = [
    *("a/1/videos_5_001.jpg", "1/videos_6_17.jpg", "1/img_1.jpg", "1/videos_5_2.png", "1/img_2.jpg"),
    *("2/videos_7_1.jpg", "2/img_3.jpg"),
]


def test_ijbs(ijbs):
    found = read_ijbs(ijbs, table(SEEN))
    rows = np.split(found.sets.rows, found.sets.starts[1:-1])

    def shown(templates):
        return [(int(found.subjects[t]), rows[t].tolist()) for t in templates]

    assert list(found.tasks) == [
        *("surveillance_to_single", "surveillance_to_booking", "multi_view_surveillance_to_booking"),
        "surveillance_to_surveillance",
    ]
    single, booking, views, video = found.tasks.values()
    assert shown(single.probes) == shown(booking.probes) == [(1, [0, 3]), (2, []), (1, [1])]
    assert shown(single.galleries["g1"]) == [(1, [2])] and shown(single.galleries["g2"]) == [(2, [6])]
    assert shown(booking.galleries["g1"]) == [(1, [2, 4])] and shown(booking.galleries["g2"]) == [(2, [6])]
    assert shown(views.probes) == [(1, [0, 3, 1]), (2, [5])]
    assert shown(video.probes) == [(1, [0, 3]), (2, [])]
    assert shown(video.galleries["g1"]) == [(1, [1])] and shown(video.galleries["g2"]) == [(2, [5])]
    assert found.sets.media[0] == found.sets.media[3] and len(set(found.sets.media.tolist())) == 6
    assert found.end_to_end and found.ranks == (1, 5, 10)


def test_ijbs_refuses(ijbs):
    def says(words, paths=SEEN):
        with pytest.raises(InputError, match=words) as error:
            read_ijbs(ijbs, table(paths))
        assert "\n" not in str(error.value)

    says(r"row 1 has the path 1/frame\.jpg; it must end in SUBJECT/videos_NUMBER", [SEEN[0], "1/frame.jpg"])
    says(r"row 0 has the path anna/img_1\.jpg", ["anna/img_1.jpg"])
    says("none of its faces is of a template", ["8/img_9.jpg"])
    single = ijbs / "galleries/cs6_surveillance_to_single_g1.csv"
    single.write_text("A,B,C\n11,one,img/1.jpg\n")
    says("_single_g1.csv: row 1: column 2 must be a subject's number")
    single.write_text("A,B,C\n11,1\n")
    says("_single_g1.csv: row 1 has 2 fields, not 3 or more")
    single.write_text("A,B,C\n")
    says("_single_g1.csv: lists nothing below its header")
    single.unlink()
    says("_single_g1.csv: no such file")
    for file in ijbs.glob("*_probe.csv"):
        file.write_text("FILENAME\nvideos/99.mp4\n")
    (ijbs / "galleries/cs6_surveillance_to_single_g2.csv").unlink()
    says("lists no file that cs6_metadata.csv has a person in")
    for file in ijbs.glob("*_probe.csv"):
        file.unlink()
    says("holds no list of probes with its galleries")
    (ijbs / "cs6_metadata.csv").unlink()
    says("cs6_metadata.csv: no such file; it comes with IJB-S from NIST")


def test_simulated_lists_are_read(tmp_path):
    counts = simulate_search(tmp_path / "T", "tinyface", 0.002, dim=8)
    faces = read_features(tmp_path / "T/features.npz")
    (task,) = read_tinyface(tmp_path / "T", faces).tasks.values()
    assert len(task.probes) == counts["probes"] and len(faces) == counts["faces"]
    assert len(task.galleries["gallery"]) == counts["gallery"] + counts["distractors"]
    again = simulate_search(tmp_path / "again", "tinyface", 0.002, dim=8)
    assert again == counts
    for name in ("features.npz", f"Testing_Set/{PROBE_LIST}"):
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("T", "again"))
        assert name.endswith(".mat") or first == second

    counts = simulate_search(tmp_path / "S", "ijbs", 0.02, dim=8)
    listed = read_ijbs(tmp_path / "S", read_features(tmp_path / "S/features.npz"))
    assert len(listed.tasks) == 5
    empty = listed.sets.sizes()[listed.tasks["surveillance_to_single"].probes] == 0
    assert 0 < empty.mean() < 0.2
    for task in listed.tasks.values():
        assert sum(map(len, task.galleries.values())) == counts["people"]

    for arguments, words in (
        ((tmp_path / "S",), "exists already"),
        ((tmp_path / "n", "ijbc"), "must be one of tinyface, ijbs"),
        ((tmp_path / "n", "ijbs", 0), "must be in"),
    ):
        with pytest.raises(InputError, match=words):
            simulate_search(*arguments)
    assert not (tmp_path / "n").exists()
