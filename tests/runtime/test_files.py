"""Reading JSON, and replacing files and folders."""

import json
import os
import re
import resource
import secrets
import subprocess

import numpy as np
import pytest

import fpsset.runtime.leftovers as leftovers_module
from fpsset.errors import InputError
from fpsset.runtime.digests import unsealed
from fpsset.runtime.files import parse_json, read_json, replacing, replacing_folder, write_json
from fpsset.runtime.leftovers import name_beside


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "Expecting value"),
        (b'{"a": 1', "Expecting ','"),
        (b'{"a": "\x80"}', "can't decode byte 0x80"),
        (b'{"a": ' + b"9" * 4301 + b"}", "4300 digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": [-Infinity]}', "holds -Infinity"),
        (b'{"a": 1e999}', "holds 1e999"),
        (b'{"a": 1, "b": {"c": 2, "c": 3}}', "holds 'c' twice"),
        (b"[1]", "is a list, not a dict"),
        (None, "No such file"),
    ],
)
def test_what_is_no_json_is_one_line(tmp_path, content, problem):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_json(path, "write it again")
    message = str(error.value)
    assert message.startswith(f"{path}: cannot be read as JSON (") and message.endswith("; write it again")
    assert problem in message and "\n" not in message


def test_json_comes_back(tmp_path):
    value = {"a": [1, 2.5, None, True, "\u00e9"], "b": {}}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json", "") == value
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(value, ensure_ascii=False).encode())
    assert read_json(tmp_path / "a.json", "") == value
    assert parse_json("[1e308, 0]", "a", "", list) == [1e308, 0]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder/a.txt"
    with replacing(path) as beside:
        beside.write_text("one")
    with pytest.raises(ZeroDivisionError):
        with replacing(path) as beside:
            beside.write_text("two")
            raise ZeroDivisionError
    assert path.read_text() == "one" and [*path.parent.iterdir()] == [path]


def test_permissions(tmp_path):
    """A new file of faces is for its owner alone; one that is replaced keeps its permissions."""
    before = os.umask(0o022)
    try:
        for private, mode in ((False, 0o644), (True, 0o600)):
            path = tmp_path / f"{private}.npz"
            for wanted in (mode, 0o640, 0o640):
                with replacing(path, private) as beside:
                    beside.write_text("x")
                assert path.stat().st_mode & 0o777 == wanted
                path.chmod(0o640)
        with replacing_folder(tmp_path / "w"):
            pass
        assert (tmp_path / "w").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


def test_a_link_put_in_the_place_is_not_followed(tmp_path, monkeypatch):
    """Even one whose name was guessed."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr(secrets, "token_hex", lambda n: "0" * 2 * n)
    with replacing(tmp_path / "a.txt") as beside:
        pass
    beside.symlink_to(victim)
    with pytest.raises(InputError, match=r"a.txt: could not be written \(File exists: "):
        with replacing(tmp_path / "a.txt") as beside:
            beside.write_text("theirs")
    name_beside(tmp_path / "w", "part").symlink_to(victim)
    with pytest.raises(InputError, match=r"w: could not be written \(File exists: "):
        with replacing_folder(tmp_path / "w"):
            pass
    assert victim.read_text() == "mine"


def dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def left_by(pid: int, path, kind: str):
    """A name that a process gave out beside `path`."""
    return path.with_name(name_beside(path, kind).name.replace(f"-{os.getpid()}-", f"-{pid}-"))


def test_what_dead_processes_left_is_removed(tmp_path):
    path, dead = tmp_path / "a.npz", dead_process()
    gone = [left_by(dead, path, "part"), left_by(os.getpid(), path, "part")]
    leftovers_module._ours.discard(gone[1].name)  # of an earlier process with this one's id
    kept = [
        left_by(os.getppid(), path, "part"),
        left_by(dead, tmp_path / "b.npz", "part"),
        tmp_path / ".a.part.npz",
        tmp_path / ".a.part-1-2-3.npz",
    ]
    elsewhere = [left_by(dead, path, "part") for _ in range(2)]
    host = re.search("part-(.{8})", elsewhere[0].name)[1]
    elsewhere = [file.with_name(file.name.replace(host, "0" * 8)) for file in elsewhere]
    for file in (*gone, *kept, *elsewhere):
        file.touch()
    os.utime(elsewhere[0], (0, 0))
    with replacing(path) as beside:
        assert not any(file.exists() for file in (*gone, elsewhere[0]))
    assert not beside.exists() and all(file.exists() for file in (*kept, elsewhere[1]))


def test_a_folder_moved_away_by_a_process_that_died_comes_back(tmp_path):
    path, dead = tmp_path / "w", dead_process()
    old, part = left_by(dead, path, "old"), left_by(dead, path, "part")
    for folder in (old, part):
        folder.mkdir()
        (folder / "x").write_text("old")
    with pytest.raises(ZeroDivisionError):
        with replacing_folder(path):
            raise ZeroDivisionError
    assert [*tmp_path.iterdir()] == [path] and (path / "x").read_text() == "old"
    old.mkdir()
    with replacing_folder(path) as beside:
        (beside / "y").touch()
    assert [*tmp_path.iterdir()] == [path] and [*path.iterdir()] == [path / "y"]


def test_a_full_disk_names_the_file_and_the_fix(tmp_path):
    """Simulated by a limit on file sizes, which fails writes as a full disk does."""
    path, limits = tmp_path / "a.npz", resource.getrlimit(resource.RLIMIT_FSIZE)
    with replacing(path) as beside:
        beside.write_text("good")
    message = (
        r"a.npz: could not be written \(File too large\); the file that was there is kept; raise the limit"
    )
    try:
        with pytest.raises(InputError, match=message):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            with replacing(path) as beside:
                np.savez(beside, x=np.zeros(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "good" and [*tmp_path.iterdir()] == [path]


def test_a_seal_tells_every_change(tmp_path):
    path = tmp_path / "a.json"
    fields = {"far": 0.01, "names": ("a", "é"), "b": {2: None, 10: True}, "a": -0.0}
    write_json(path, fields, sealed=True)
    held = read_json(path, "")
    assert unsealed(held, "a", "") == json.loads(json.dumps(fields))
    for change in ({"far": 0.010000001}, {"names": ["é", "a"]}, {"a": 0.0}, {"more": 1}, {"seal": "0" * 64}):
        with pytest.raises(InputError, match=r"a\.json: differs from what was saved .*; write it again"):
            unsealed(held | change, "a.json", "write it again")
    with pytest.raises(InputError, match=r"a\.json: has no seal"):
        unsealed({"far": 0.01}, "a.json", "write it again")
