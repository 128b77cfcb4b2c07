"""User-defined protocols: faces by path or row, templates by number or name, galleries and probes."""

import numpy as np
import pytest

from fpsset.config import base_config
from fpsset.data.feature_table import FeatureTable
from fpsset.data.files import write_features
from fpsset.data.protocol_files import apply_protocol
from fpsset.datasets.sources import evaluation_data
from fpsset.errors import InputError
from fpsset.evaluation.protocols import make_protocol

PATHS = np.array(["ann/1.png", "ann/2.png", "bob/1.png", "bob/2.png", "cyd/1.png"])
TABLE = FeatureTable(
    np.eye(5, dtype=np.float32),
    np.ones(5, np.float32),
    np.zeros(5, int),
    np.arange(5),
    paths=PATHS,
    name="F.npz",
)
CSV = """path,template,subject,role
ann/1.png,ann_a,ann,gallery:one
bob/1.png,bob_a,bob,gallery:two
ann/2.png,ann_b,ann,probe
bob/2.png,bob_b,bob,probe
bob/1.png,bob_b,bob,probe
cyd/1.png,cyd_a,cyd,probe
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "lfw.csv"
        path.write_text(text)
        return path

    return write


def test_a_protocol_may_use_names_galleries_and_a_face_twice(write):
    faces, search = apply_protocol(TABLE, write(CSV))
    np.testing.assert_array_equal(faces.paths, PATHS[[0, 2, 1, 3, 2, 4]])
    np.testing.assert_array_equal(faces.embeddings, np.eye(5)[[0, 2, 1, 3, 2, 4]])
    np.testing.assert_array_equal(faces.template, [0, 2, 1, 3, 3, 4])
    np.testing.assert_array_equal(faces.subject, [0, 1, 0, 1, 1, 2])
    np.testing.assert_array_equal(faces.media, [0, 2, 1, 3, 2, 4])
    assert {name: rows.tolist() for name, rows in search.galleries.items()} == {
        "one": [[0, 0]],
        "two": [[2, 1]],
    }
    assert search.probes.tolist() == [[1, 0], [3, 1], [4, 2]]


@pytest.mark.parametrize(
    "names", [["1_12", "112"], ["007", "7"], ["\uff17", "7"], ["+7", "7"], [str(1 << 63), "7"]]
)
def test_names_are_not_read_as_the_integers_they_resemble(write, names):
    lines = "".join(f"{row},{name},{name}\n" for row, name in enumerate(names))
    faces, _ = apply_protocol(TABLE, write(f"row,template,subject\n{lines}"))
    assert sorted(faces.subject.tolist()) == sorted(faces.template.tolist()) == [0, 1]


@pytest.mark.parametrize(("delimiter", "mark"), [(";", ""), ("\t", ""), (",", "\ufeff"), (";", "\ufeff")])
def test_a_protocol_may_come_from_any_spreadsheet(write, delimiter, mark):
    faces, search = apply_protocol(TABLE, write(mark + CSV.replace(",", delimiter)))
    expected, lists = apply_protocol(TABLE, write(CSV))
    for column in ("paths", "template", "subject", "media"):
        np.testing.assert_array_equal(getattr(faces, column), getattr(expected, column))
    assert search.probes.tolist() == lists.probes.tolist()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_protocol_may_use_rows_numbers_and_media(write, tmp_path, form):
    path = write("Row,Template,Subject,Media\n4,30,7,1\n\n0,10,5,1\n1,10,5,1\n")
    if form == "parquet":
        from pyarrow import parquet, table

        path = tmp_path / "protocol.parquet"
        columns = {"row": [4, 0, 1], "template": [30, 10, 10], "subject": [7, 5, 5], "media": [1, 1, 1]}
        parquet.write_table(table(columns), path)
    faces, search = apply_protocol(TABLE, path)
    np.testing.assert_array_equal(faces.template, [30, 10, 10])
    np.testing.assert_array_equal(faces.subject, [7, 5, 5])
    np.testing.assert_array_equal(faces.media, [1, 1, 1])
    assert search is None and faces.paths[0] == "cyd/1.png"


def test_a_run_evaluates_a_protocol(write, tmp_path):
    """It does so with a list of pairs of templates, and without."""
    write_features(tmp_path / "F.npz", TABLE)
    (tmp_path / "pairs.csv").write_text("10,11,1\n10,20,0\n")
    data = base_config().data
    data.eval = str(tmp_path / "F.npz")
    data.protocol = str(write("path,template,subject\nann/1.png,10,1\nann/2.png,11,1\nbob/1.png,20,2\n"))
    for pairs, count in (("", 3), (str(tmp_path / "pairs.csv"), 2)):
        data.pairs = pairs
        found = evaluation_data(data, 0)
        protocol = make_protocol(found.table, found.pairs_file, found.search)
        assert len(protocol.pairs.same) == count and protocol.pairs.same.sum() == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "needs a column 'path' or a column 'row'"),
        ("path,row,template,subject\n", "needs a column 'path' or a column 'row'"),
        ("path,template\n", "no column 'subject' (it has: path, template)"),
        ("path,template,subject\n", "lists no faces"),
        ("path,template,subject\nann/1.png,1\n", "line 2 has 2 fields, the header has 3"),
        (
            "path,template,subject\nann/1.png,1,1\nann/9,1,1\n",
            "face 2: F.npz has no path 'ann/9'",
        ),
        ("row,template,subject\n5,1,1\n", "face 1: F.npz has no row (0 to 4) '5'"),
        ("row,template,subject\n1,,1\n", "face 1: 'template' is empty"),
        ("row,template,subject\n1,1,1\n2,1,2\n", "template 1 spans subjects 1 and 2"),
        ("row,template,subject,role\n1,1,1,enrol\n", "face 1: role is 'enrol'"),
        ("row,template,subject,role\n1,1,1,probe:x\n", "face 1: role is 'probe:x'"),
        (
            "row,template,subject,role\n1,1,1,probe\n2,1,1,\n",
            "face 2: role is '', but 'probe' on an earlier",
        ),
    ],
)
def test_an_invalid_protocol_is_refused(write, text, problem):
    with pytest.raises(InputError) as error:
        apply_protocol(TABLE, write(text))
    assert problem in str(error.value) and "\n" not in str(error.value)


def test_an_unreadable_protocol_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        apply_protocol(TABLE, tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"path,template\n\xff\xfe")
    with pytest.raises(InputError, match="cannot be read as CSV"):
        apply_protocol(TABLE, tmp_path / "bytes.csv")
