"""Processes that work apart hear of each other's end."""

import threading

import pytest

from fpsset.errors import InputError
from fpsset.runtime import apart
from fpsset.runtime.apart import Apart


def stop(folder, process, error):
    """A process that leaves its work with an error."""
    with pytest.raises(type(error)), Apart(folder, process, 3):
        raise error


@pytest.fixture
def first_does_not_wait(monkeypatch):
    monkeypatch.setattr(apart, "_LEAVE_SECONDS", 0.0)


def test_shares_are_apart_and_complete():
    items = list(range(10))
    shares = [Apart(None, process, 3).share(items) for process in range(3)]
    assert sorted(item for share in shares for item in share) == items
    assert {len(share) for share in shares} == {3, 4}
    assert Apart(None).share(items) == items


@pytest.mark.usefixtures("first_does_not_wait")
def test_a_failure_reaches_all_with_its_message(tmp_path):
    others = [Apart(tmp_path, process, 3) for process in range(3)]
    others[0].check()
    stop(tmp_path, 1, InputError("F.npz: could not be written\n(no space)"))
    others[1].check()  # nobody follows itself
    message = r"^process 1 failed: F\.npz: could not be written \(no space\)$"
    for process in (2, 0):  # and nobody follows a follower
        with pytest.raises(InputError, match=message), others[process] as other:
            other.wait(lambda: False)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "process_0.followed",
        "process_1.failed",
        "process_2.followed",
    ]
    apart.forget(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("first_does_not_wait")
def test_a_stop_stops_all(tmp_path):
    stop(tmp_path, 0, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        Apart(tmp_path, 2, 3).check()


def test_the_first_leaves_last(tmp_path, monkeypatch):
    """JAX ends the others when it has left."""
    monkeypatch.setattr(apart, "_LEAVE_SECONDS", 60.0)
    first = threading.Thread(target=stop, args=(tmp_path, 0, InputError("failed")))
    first.start()
    for process in (1, 2):
        other = Apart(tmp_path, process, 3)
        with pytest.raises(InputError, match="process 0 failed: failed"), other:
            other.wait(lambda: False)
        first.join(0 if process == 1 else 60)
        assert first.is_alive() == (process == 1)


def test_all_wait_for_the_slowest(tmp_path):
    others = [Apart(tmp_path, process, 2) for process in range(2)]
    others[0].done()
    slow = threading.Timer(0.1, others[1].done)
    slow.start()
    others[0].wait()
    assert (tmp_path / "process_1.done").is_file()


def test_a_notice_without_words(tmp_path):
    """A full disk takes an empty file at most."""
    (tmp_path / "process_1.failed").touch()
    with pytest.raises(InputError, match="process 1 failed: see its message"):
        Apart(tmp_path, 0, 2).check()


def test_a_process_alone_leaves_nothing(tmp_path):
    with pytest.raises(InputError), Apart(tmp_path) as alone:
        alone.done()
        alone.check()
        alone.wait(lambda: False)
        alone.wait()
        raise InputError("failed")
    assert not list(tmp_path.iterdir())
