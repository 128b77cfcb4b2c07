"""Feature files survive a round trip, and each way to be invalid gives one clear line."""

import dataclasses
import pickle

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from fpsset.data.feature_table import known_people, make_table, split_people, templates
from fpsset.data.files import read_features, write_features
from fpsset.data.synthetic import make_synthetic
from fpsset.errors import InputError


def columns(rows=12, dim=8):
    rng = np.random.default_rng(0)
    return {
        "embeddings": rng.standard_normal((rows, dim)).astype(np.float16),
        "norms": rng.uniform(1, 5, rows).astype(np.float32),
        "subject": np.repeat(np.arange(rows // 3), 3),
        "media": np.arange(rows),
    }


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_table_survives_a_round_trip(tmp_path, suffix):
    table, _ = make_synthetic(5, 0, dim=16)
    table = dataclasses.replace(
        table,
        template=table.subject * 2 + table.media % 2,
        paths=np.char.mod("a/%d.png", np.arange(len(table))),
    )
    path = tmp_path / f"new/faces{suffix}"
    write_features(path, table)
    again = read_features(path)
    for column in ("norms", "subject", "media", "template", "seed", "paths"):
        np.testing.assert_array_equal(getattr(again, column), getattr(table, column))
    np.testing.assert_allclose(again.embeddings, table.embeddings, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(again.embeddings, axis=1), 1, atol=1e-6)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_unknown_columns_are_ignored_and_column_vectors_accepted(tmp_path):
    np.savez(tmp_path / "f.npz", extra=np.ones(3), **{**columns(), "norms": np.ones((12, 1))})
    assert len(read_features(tmp_path / "f.npz")) == 12


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_people_media_and_templates_may_have_names(tmp_path, suffix):
    rows = columns()
    names = np.array(["ben", "", "anna", "Zoë"])
    rows["subject"], rows["media"] = names[rows["subject"]], np.char.mod("clip %d", rows["media"] // 2)
    rows["template"] = np.char.mod("t%d", np.arange(12) // 3)
    write_features(tmp_path / f"f{suffix}", make_table(rows, "rows"))
    table = read_features(tmp_path / f"f{suffix}")
    for column in ("subject", "media", "template"):
        np.testing.assert_array_equal(table.named(column), rows[column])
    assert table.subject.tolist() == [2] * 3 + [-1] * 3 + [1] * 3 + [0] * 3  # in the order of the names
    assert set(known_people(table).named("subject")) == {"ben", "anna", "Zoë"}
    rows["template"][:] = "t0"
    with pytest.raises(InputError, match="template t0 spans subjects"):
        make_table(rows, "rows")


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_the_columns_that_a_file_has_are_named(tmp_path, suffix):
    path = tmp_path / f"f{suffix}"
    if suffix == ".npz":
        np.savez(path, np.ones((3, 2), np.float32), np.ones(3))
        held = "arr_0, arr_1"
    else:
        parquet.write_table(pyarrow.table({"norm": [1.0]}), path)
        held = "norm"
    with pytest.raises(InputError, match=rf"no column 'embeddings' \(it has: {held}\); .* by these names"):
        read_features(path)


def test_norms_may_be_float16():
    rows = columns()
    rows["norms"] = rows["norms"].astype(np.float16)
    np.testing.assert_array_equal(make_table(rows, "f").norms, rows["norms"].astype(np.float32))
    rows["norms"][4] = np.inf
    with pytest.raises(InputError, match="row 4 of 'norms' is not finite"):
        make_table(rows, "f")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norms": None}, "no column 'norms'.*embeddings, media, subject"),
        ({"embeddings": np.ones(12, "f")}, r"'embeddings' must be float \[M, D\]"),
        ({"embeddings": np.ones((12, 8), int)}, "'embeddings' must be float"),
        ({"norms": np.ones(11)}, "'norms' has 11 rows but 'embeddings' has 12"),
        ({"subject": np.ones(12)}, "'subject' must be .* integers"),
        ({"media": np.ones((12, 2), int)}, "'media' must be .* integers"),
        ({"paths": np.arange(12)}, "'paths' must be .* strings"),
        ({"template": np.repeat([0, 1], 6)}, "template 0 spans subjects 0 and 1"),
    ],
)
def test_an_invalid_column_is_named(change, message):
    raw = {name: value for name, value in {**columns(), **change}.items() if value is not None}
    with pytest.raises(InputError, match=f"^F: .*{message}"):
        make_table(raw, "F")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("embeddings", np.nan, "row 7 of 'embeddings' holds a value that is not finite"),
        ("embeddings", 0, "row 7 of 'embeddings' has length zero"),
        ("norms", np.inf, "row 7 of 'norms' is not finite"),
        ("norms", -1, "row 7 of 'norms' is negative"),
    ],
)
def test_an_invalid_row_is_named(column, value, message):
    raw = columns()
    raw[column][7] = value
    with pytest.raises(InputError, match=message):
        make_table(raw, "F")


def _object_array(path):
    np.savez(path, **{**columns(), "paths": np.array([{}] * 12, object)})


def _npy(path):
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def _truncated(path):
    np.savez(path, **columns())
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_text("hello"), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "cannot be read"),
        (_object_array, "cannot be read"),
        (_npy, "single array"),
        (_truncated, "cannot be read"),
    ],
)
def test_a_file_that_is_not_an_npz_is_refused(tmp_path, write, message):
    write(tmp_path / "f.npz")
    with pytest.raises(InputError, match=f"f.npz: .*{message}"):
        read_features(tmp_path / "f.npz")


def test_invalid_parquet_is_refused(tmp_path):
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "f.parquet"
    path.write_text("hello")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_features(path)
    plain = {name: values.tolist() for name, values in columns().items()}
    for bad, message in (
        ({"embeddings": [[1.0] * 8] * 11 + [[1.0] * 7]}, "row 11 of 'embeddings' is 7 wide"),
        ({"embeddings": [1.0] * 12}, "column of lists"),
        ({"norms": [1.0] * 11 + [None]}, "'norms' has 1 empty"),
        ({"embeddings": [{"a": 1.0}] * 12}, "column of lists"),
    ):
        parquet.write_table(pyarrow.table({**plain, **bad}), path)
        with pytest.raises(InputError, match=message):
            read_features(path)


def test_embeddings_of_any_length_are_normalised():
    raw = columns()
    raw["embeddings"] = raw["embeddings"].astype(np.float32)
    expected = make_table(raw, "F").embeddings
    for factor in (1e25, 1e-25, np.float64(1e200)):
        scaled = make_table({**raw, "embeddings": raw["embeddings"] * factor}, "F").embeddings
        np.testing.assert_allclose(scaled, expected, atol=1e-6)


def test_the_fingerprint_covers_everything_that_training_depends_on():
    table, _ = make_synthetic(5, 0, dim=16)
    embeddings = table.embeddings.copy()
    embeddings[-1, -1] *= -1
    changed = [
        dataclasses.replace(table, **change)
        for change in (
            {"embeddings": embeddings},
            {"norms": table.norms * 2},
            {"subject": table.subject + 1},
            {"media": table.media + 1},
            {"seed": None},
        )
    ]
    prints = {table.fingerprint(), *(other.fingerprint() for other in changed)}
    assert len(prints) == 6
    again = dataclasses.replace(table, template=table.subject, name="moved")
    assert again.fingerprint() == table.fingerprint()


def test_no_person_is_on_both_sides_of_the_holdout():
    table, _ = make_synthetic(40, 0, dim=8)
    seen, held = split_people(table, 0.2, 3)
    assert len(np.unique(held.subject)) == 8
    assert not set(seen.subject.tolist()) & set(held.subject.tolist())
    assert len(seen) + len(held) == len(table)
    np.testing.assert_array_equal(split_people(table, 0.2, 3)[1].media, held.media)
    with pytest.raises(InputError, match="at least 4"):
        split_people(table.take(table.subject < 3), 0.2, 0)


def test_faces_of_nobody_known_are_left_out_and_counted(capsys):
    table, _ = make_synthetic(4, 0, dim=8)
    some = dataclasses.replace(table, subject=np.where(table.subject > 1, table.subject, -1 - table.subject))
    kept = known_people(some)
    assert set(kept.subject.tolist()) == {2, 3} and known_people(kept) is kept
    assert f"{len(table) - len(kept)} of {len(table)} faces are left out" in capsys.readouterr().err
    with pytest.raises(InputError, match="names nobody"):
        known_people(dataclasses.replace(table, subject=-1 - table.subject))


def test_without_a_template_column_each_person_is_split_into_two_templates():
    table, _ = make_synthetic(20, 1, dim=8)
    ids, subjects, sets = templates(table)
    assert len(np.unique(ids)) == len(ids) == len(subjects)
    people, counts = np.unique(subjects, return_counts=True)
    assert len(people) == 20 and (counts == 2).all()
    for t in range(len(ids)):
        rows = sets.rows[sets.starts[t] : sets.starts[t + 1]]
        assert (table.subject[rows] == subjects[t]).all()
    # No medium is in two templates.
    owner = np.empty(len(table), int)
    owner[sets.rows] = np.repeat(np.arange(len(ids)), sets.sizes())
    assert len(np.unique(np.stack([table.media, owner]), axis=1).T) == len(np.unique(table.media))


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_feature_file_records_its_backbone(tmp_path, suffix):
    table, _ = make_synthetic(5, 0, dim=16)
    for backbone in ("", "0123456789abcdef"):
        write_features(tmp_path / f"faces{suffix}", dataclasses.replace(table, backbone=backbone))
        assert read_features(tmp_path / f"faces{suffix}").backbone == backbone
