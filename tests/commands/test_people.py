"""fpsset people, from a folder of names to an answer."""

import dataclasses
import json

import numpy as np
import pytest

from fpsset.commands.cli import main
from fpsset.data.files import read_features, write_features
from tests.commands.lines import process, refused
from tests.people.edited import make_table, name_of


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Half of the media of 30 people to enrol, of the first 20, and the other half, labelled."""
    folder = tmp_path_factory.mktemp("given")
    table = make_table(30, dim=64)
    half = table.media % 2 == 0
    write_features(folder / "enrol.npz", table.take(half & (table.subject < 20)))
    write_features(folder / "others.npz", table.take(~half))
    write_features(folder / "one.npz", table.take(~half & (table.subject == 7)))
    return folder


@pytest.fixture
def run(given, tmp_path, capsys):
    """Runs a subcommand on a store in which people are enrolled; returns what it prints."""

    def command(*words, code: int = 0):
        capsys.readouterr()
        assert main(["people", str(tmp_path / "a.fps"), *map(str, words)]) == code
        out = capsys.readouterr()
        return out.out if code == 0 else out.err

    said = command("enrol", given / "enrol.npz", "--model", "plain")
    assert "faces of 20 people, 20 of them new" in said
    return command


def test_from_folders_to_an_answer(run, given, tmp_path):
    listed = json.loads(run("list", "--json"))
    assert [one["name"] for one in listed] == [name_of(person) for person in range(20)]
    (found,) = json.loads(run("search", given / "one.npz", "--json"))
    assert found["found"][0]["name"] == name_of(7) and found["found"][0]["answer"] is None
    assert "score" in run("verify", name_of(7), given / "one.npz")
    assert "no decision" in run("verify", name_of(7), given / "one.npz")
    said = run("calibrate", given / "others.npz", "--far", 0.02, "--fpir", 0.1, "--plot", tmp_path / "o.png")
    assert "30 sets, 20 of them of people in the store, against 20 people" in said
    assert "FAR 0.02: threshold" in said and "norm below" in said and (tmp_path / "o.png").stat().st_size
    assert "same person" in run("verify", name_of(7), given / "one.npz")
    assert "different" in run("verify", name_of(8), given / "one.npz")
    (found,) = json.loads(run("search", given / "one.npz", "--json"))
    assert found["found"][0]["answer"] == "same person"


def test_faces_of_nobody_known_are_searched_one_by_one(run, given, tmp_path):
    table = read_features(given / "others.npz")
    two = table.take([np.flatnonzero(table.subject == person)[0] for person in (7, 9)])
    write_features(tmp_path / "two.npz", dataclasses.replace(two, subject=np.array([-1, -1])))
    found = json.loads(run("search", tmp_path / "two.npz", "--json"))
    assert [one["found"][0]["name"] for one in found] == [name_of(7), name_of(9)]
    assert run("verify", name_of(7), tmp_path / "two.npz").count("score") == 2


def test_enrolled_faces_are_no_trials_whatever_file_they_come_from(run, given, tmp_path, capsys):
    table = read_features(given / "enrol.npz").take(np.arange(40)[::-1])
    renamed = dataclasses.replace(table, paths=None)
    write_features(tmp_path / "copy.npz", renamed)
    assert "all its faces are enrolled" in refused(
        capsys, "people", tmp_path / "a.fps", "calibrate", tmp_path / "copy.npz"
    )


def test_edits(run, given):
    faces = json.loads(run("show", name_of(3), "--json"))
    numbers = [face["face"] for face in faces]
    assert faces[0]["source"] == str(given / "enrol.npz")
    run("move", *numbers[:2], "--to", "Ann")
    run("set-aside", numbers[2])
    assert "aside" in run("show", name_of(3))
    run("put-back", numbers[2])
    run("remove", numbers[3])
    run("rename", "Ann", "Anna")
    run("merge", "Anna", "--into", name_of(4))
    run("add", name_of(4), given / "one.npz")
    assert f"{name_of(5)}, {name_of(6)}: forgotten" in run("forget", name_of(5), name_of(6))
    assert len(json.loads(run("list", "--json"))) == 18
    run("migrate", "--model", "plain", "--prototypes", "auto")
    assert "faces" in run("list")


def test_exports_and_strangers(run, given, tmp_path):
    assert "vectors" in run("export", tmp_path / "a.parquet", "--to", "parquet")
    assert "for psql" in run("export", tmp_path / "a.sql", "--to", "pgvector")
    write_features(tmp_path / "labelled.npz", make_table(150, seed=5, most=16, dim=64))
    assert "faces are set aside" in run("strangers", tmp_path / "labelled.npz")
    assert "0 faces are set aside" in run("strangers", "off")
    run("export", tmp_path / "a.faiss", "--to", "faiss")
    (found,) = json.loads(run("search", given / "one.npz", "--index", tmp_path / "a.faiss", "--json"))
    assert found["found"][0]["name"] == name_of(7)


def test_refusals(run, given, tmp_path, capsys):
    store = tmp_path / "a.fps"
    before = store.read_bytes()
    narrow = make_table(2, most=2)
    narrow = narrow.__class__(**{**vars(narrow), "embeddings": np.eye(2, 8, dtype=np.float32)[[0, 1, 0, 1]]})
    write_features(tmp_path / "narrow.npz", narrow)
    for words, problem in (
        (("enrol", tmp_path / "narrow.npz"), "embeddings are 8 wide"),
        (("enrol", given / "none.npz"), "none.npz: no such folder or file"),
        (("enrol", given), "images need a backbone"),
        (("enrol", given / "one.npz", "--prototypes", "33"), "--prototypes is 33"),
        (("enrol", given / "one.npz", "--prototypes", "2"), "has 1 prototypes a person"),
        (("enrol", given / "one.npz", "--model", "posterior"), "is fitted to faces first"),
        (("show", "Bob"), "holds nobody named 'Bob'"),
        (("move", "99999", "--to", "Bob"), "has no face 99999"),
        (("verify", name_of(1), given / "one.npz", "--far", "0.5"), "holds no threshold"),
        (("calibrate", given / "one.npz", "--far", "2"), "--far is 2"),
        (("calibrate", given / "enrol.npz"), "all its faces are enrolled"),
        (("calibrate", given / "one.npz"), "are too few for --far"),
        (("export", store, "--to", "parquet"), "is also STORE"),
        (("search", given / "one.npz", "--index", tmp_path / "none"), "none: no such index"),
    ):
        assert problem in refused(capsys, "people", store, *words)
    assert store.read_bytes() == before
    assert "no such store" in refused(capsys, "people", tmp_path / "b.fps", "list")
    assert "has no model yet" in refused(capsys, "people", tmp_path / "b.fps", "enrol", given / "one.npz")
    assert not (tmp_path / "b.fps").exists()


def test_a_process(given, tmp_path):
    said = process(
        "people", tmp_path / "a.fps", "enrol", given / "one.npz", "--model", "plain", "--name", "Ann"
    )
    assert "1 people, 1 of them new" in said.out
    assert "Ann: " in process("people", tmp_path / "a.fps", "list").out
