"""Edits give what the same faces enrolled at once give; forgetting leaves no byte; two may write at once."""

import dataclasses
import os
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fpsset.commands.cli import main
from fpsset.data.files import write_features
from fpsset.errors import InputError
from fpsset.people.lists import listed, shown
from fpsset.people.people import People, forget, names_of, rename
from fpsset.people.store import open_store
from tests.people.edited import DIM, MODEL, edit, enrolled, fresh, make_table, name_of, read


@pytest.fixture(scope="module")
def table():
    return make_table()


@pytest.fixture
def path(tmp_path, table):
    enrolled(tmp_path / "a.fps", table)
    return tmp_path / "a.fps"


def faces_of(path, name: str) -> list[int]:
    with open_store(path) as store:
        return [face.face for face in shown(store, name)]


@pytest.mark.parametrize(
    "options", [{}, {"prototypes": "auto"}, {"prototypes": 3, "strangers": np.linspace(-4, 7, 24).tolist()}]
)
@settings(max_examples=5, phases=[Phase.generate])
@given(data=st.data())
def test_edits_equal_a_fresh_enrolment_to_the_bit(options, data, table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("edits")
    path, draw = folder / "a.fps", data.draw
    half = np.arange(len(table)) % 2 == 0
    enrolled(path, table.take(half), **options)
    enrolled(path, table, **options)
    for _ in range(6):
        with open_store(path) as store:
            people = [person.name for person in listed(store)]
        one, other = draw(st.sampled_from(people)), draw(st.sampled_from(people))
        faces = draw(st.lists(st.sampled_from(faces_of(path, one)), min_size=1, max_size=4, unique=True))
        match draw(st.sampled_from(["move", "remove", "merge", "forget", "add"])):
            case "move":
                edit(path, "move", faces, draw(st.sampled_from([other, "somebody new"])))
            case "remove":
                edit(path, "remove", faces)
            case "merge":
                edit(path, "merge", [one], other)
            case "forget" if len(people) > 2:
                edit(path, "forget", [one])
            case _:  # what was removed comes back; what was moved stays
                enrolled(path, table, **options)
    assert read(path)["descriptors"] == fresh(path, folder / "b.fps", table, **options)


def test_forgotten_people_leave_no_byte(path, table):
    edit(path, "move", faces_of(path, name_of(1))[:2], name_of(2))
    edit(path, "remove", faces_of(path, name_of(2))[:3])
    with open_store(path) as store:
        rows = store.sql.execute(
            "select face, place from people join faces on person = people.id where name = ?", (name_of(2),)
        ).fetchall()
        vectors = store.sql.execute(
            "select vectors from people join descriptors on person = people.id where name = ?", (name_of(2),)
        ).fetchone()
    secrets = [
        *(face for face, _ in rows),
        *(place.encode() for _, place in rows),
        name_of(2).encode(),
        *vectors,
    ]
    secrets += [face[4 + start : 12 + start] for face, _ in rows for start in range(0, 2 * DIM - 8, 8)]
    held = path.read_bytes()
    assert all(secret in held for secret in secrets)
    others = {name: found for name, found in read(path)["descriptors"].items() if name != name_of(2)}
    edit(path, "forget", [name_of(2)])
    held = path.read_bytes()
    assert not any(secret in held for secret in secrets)
    assert os.listdir(path.parent) == [path.name]
    assert read(path)["descriptors"] == others
    edit(path, "forget", list(others))
    held = path.read_bytes()
    assert not re.search("Zoë|photos|png".encode(), held)


def test_an_interrupted_wipe_is_made_up_for(path, monkeypatch):
    with open_store(path) as store:
        monkeypatch.setattr(store, "wipe", lambda: None)  # killed between the change and the wipe
        forget(store, [name_of(2)])
        size = path.stat().st_size
    with open_store(path) as store:
        assert store.get("wipe") is None and store.sql.execute("pragma freelist_count").fetchone() == (0,)
    assert path.stat().st_size <= size and name_of(2).encode() not in path.read_bytes()


def test_enrolling_again_changes_nothing(path, table):
    edit(path, "move", faces_of(path, name_of(1))[:2], name_of(2))
    before = read(path)
    enrolled(path, table)
    assert read(path) == before
    changed = make_table(seed=1)
    with pytest.raises(InputError, match=r"photos: Zoë 000/0.png: face 1 came from there before"):
        enrolled(path, changed.take(np.arange(1)))
    assert read(path) == before


def test_media_of_a_folder_that_grew(tmp_path):
    """Media are numbered by the folder's list, which changes; the faces of one stay together."""
    table = make_table()
    order = np.arange(len(table))
    few = table.take(order % 3 == 0)
    few = few.__class__(**{**vars(few), "media": np.unique(few.media, return_inverse=True)[1]})
    enrolled(tmp_path / "a.fps", few)
    enrolled(tmp_path / "a.fps", table)
    enrolled(tmp_path / "b.fps", table)
    assert read(tmp_path / "a.fps")["descriptors"] == read(tmp_path / "b.fps")["descriptors"]


def test_faces_set_aside_and_put_back(path):
    before = read(path)
    faces = faces_of(path, name_of(3))
    edit(path, "set_aside", faces[:2])
    with open_store(path) as store:
        assert [person.aside for person in listed(store)] == [0, 0, 0, 2, 0, 0, 0, 0]
        assert [face.state for face in shown(store, name_of(3))].count("aside") == 2
    assert read(path)["descriptors"] != before["descriptors"]
    edit(path, "put_back", faces[:2])
    assert read(path)["descriptors"] == before["descriptors"]
    with pytest.raises(InputError, match="would have no face left"):
        edit(path, "set_aside", faces)


@pytest.mark.parametrize("strangers", [None, np.linspace(-4, 7, 24).tolist()])
@pytest.mark.parametrize("how", ["remove", "move"])
def test_faces_set_aside_are_not_all_that_a_person_has(how, strangers, tmp_path, table):
    enrolled(tmp_path / "a.fps", table, strangers=strangers)
    before, faces = read(tmp_path / "a.fps"), faces_of(tmp_path / "a.fps", name_of(3))
    edit(tmp_path / "a.fps", "set_aside", faces[:1])
    with pytest.raises(InputError, match=f"'{name_of(3)}' would have no face left but those set aside"):
        edit(tmp_path / "a.fps", how, faces[1:], *([name_of(4)] if how == "move" else []))
    edit(tmp_path / "a.fps", "put_back", faces[:1])
    assert read(tmp_path / "a.fps")["descriptors"] == before["descriptors"]


def test_people_are_listed_by_number_where_names_have_one(tmp_path, table):
    names = ["10", "9", "anna 2", "Anna 10", "b", "7"]
    rows = np.arange(len(names))
    enrolled(tmp_path / "a.fps", table.take(rows), names)
    with open_store(tmp_path / "a.fps") as store:
        assert [person.name for person in listed(store)] == ["7", "9", "10", "anna 2", "Anna 10", "b"]


def test_one_command_enrols_all_its_sources_or_none(tmp_path, table, capsys):
    path, good, bad = (tmp_path / name for name in ("a.fps", "good.npz", "bad.npz"))
    enrolled(path, table.take(np.arange(5)))
    before = read(path)
    twice = dataclasses.replace(table, paths=table.paths[[0, *range(len(table) - 1)]])
    write_features(good, table)
    write_features(bad, twice)
    assert main(["people", str(path), "enrol", str(good), str(bad), "--name", "Ben"]) == 2
    assert "bad.npz: Zoë 000/0.png: comes twice" in capsys.readouterr().err
    assert read(path) == before


def test_names(path):
    with open_store(path) as store:
        rename(store, name_of(1), "Ben")
        with pytest.raises(InputError, match="'Ben' is in the store too"):
            rename(store, name_of(2), "Ben")
        with pytest.raises(InputError, match="holds nobody named 'Bob'; it holds Ben, Zoë 000"):
            rename(store, "Bob", "x")
        rename(store, "Zoe\u0308 000", "Zoë")  # decomposed, as some systems write it
        for name in ("", " Ann", "A" * 501, "\udce4"):
            with pytest.raises(InputError, match="is no name of a person"):
                rename(store, "Ben", name)


def test_names_come_from_folders_or_numbers():
    table = make_table(2, most=2)
    assert names_of(table) == [name_of(person) for person in table.subject]
    flat = table.__class__(**{**vars(table), "paths": np.array([p.partition("/")[2] for p in table.paths])})
    shared = table.__class__(**{**vars(table), "paths": np.array(["img/" + p for p in table.paths])})
    assert names_of(flat) == names_of(shared) == [str(person) for person in table.subject]
    labelled = table.__class__(**{**vars(table), "labels": {"subject": np.array(["Ann", "Ben"])}})
    assert set(names_of(labelled)) == {"Ann", "Ben"}


def test_who_loses_all_faces_is_no_more(path):
    with open_store(path) as store:
        people = People(store, MODEL)
        assert people.move([face.face for face in shown(store, name_of(1))], name_of(2)) == [name_of(1)]
        assert people.remove([face.face for face in shown(store, name_of(2))]) == [name_of(2)]
        assert len(listed(store)) == 6
        with pytest.raises(InputError, match="has no face 99999"):
            people.move([99999], name_of(2))


def test_only_the_owner_reads_it(path, capsys):
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    read(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "others could read it" in capsys.readouterr().err


def test_files_that_are_no_stores(tmp_path):
    with pytest.raises(InputError, match="no such store"), open_store(tmp_path / "none"):
        pass
    (tmp_path / "text").write_text("text " * 1000)
    with pytest.raises(InputError, match="text: is no store, or is damaged"), open_store(tmp_path / "text"):
        pass
    with pytest.raises(InputError, match="is no file"), open_store(tmp_path, create=True):
        pass
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sqlite3; sqlite3.connect(r'{tmp_path}/sql').execute('create table t (a)')",
        ],
        check=True,
    )
    with pytest.raises(InputError, match="database of another program"), open_store(tmp_path / "sql"):
        pass


def test_a_damaged_store_is_one_line(path):
    held = bytearray(path.read_bytes())
    with open_store(path) as store:
        (face,) = store.sql.execute("select face from faces where id = 5").fetchone()
    held[path.read_bytes().index(face) + 9] ^= 1
    path.write_bytes(held)
    with pytest.raises(InputError, match=r"damaged \(a checksum is wrong\)"), open_store(path) as store:
        for person in range(8):
            shown(store, name_of(person))
    held[1000:] = b"\xff" * (len(held) - 1000)
    path.write_bytes(held)
    with pytest.raises(InputError, match="damaged"), open_store(path) as store:
        listed(store)


def test_two_writers_at_once(path, table):
    """Threads with a connection each: every change takes place, and none sees half of another."""
    faces = {person: faces_of(path, name_of(person))[:4] for person in (0, 1)}
    problems = []

    def moves(person: int) -> None:
        try:
            for _ in range(4):
                edit(path, "move", faces[person], "one of both")
                edit(path, "move", faces[person], name_of(person))
        except BaseException as error:
            problems.append(error)

    before = read(path)
    threads = [threading.Thread(target=moves, args=(person,)) for person in faces]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems and read(path) == before
