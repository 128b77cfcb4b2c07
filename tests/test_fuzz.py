"""Single bits and cuts of every file that is read: refused in one line, passed over, or the same results.

The default run tries a few of each kind, `pytest -m fuzz` 2,000. Some formats of others have no checksum, so
that damage can change what they say; then nothing but another value of the right form is allowed.
"""

import contextlib
import pathlib
import signal
import warnings
from collections import Counter

import jax
import numpy as np
import pytest

from fpsset.errors import InputError
from fpsset.images.aligned_faces import UnreadableImage
from fpsset.weights import trained
from tests.damage import bits
from tests.kinds_of_files import KINDS, Kind

_SECONDS = 30  # for one file; a hang otherwise


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    """A damaged checkpoint is not read again in case it is just being deleted."""
    monkeypatch.setattr(trained, "_DELETION_SECONDS", 0)


@contextlib.contextmanager
def at_most(seconds: int):
    def late(*_):
        raise TimeoutError(f"still reading after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def same(one, other) -> bool:
    """Whether two results are equal to the last bit."""
    leaves, form = jax.tree.flatten(one, is_leaf=lambda leaf: leaf is None)
    others, other_form = jax.tree.flatten(other, is_leaf=lambda leaf: leaf is None)
    return form == other_form and all(
        type(a) is type(b) and (np.asarray(a).dtype, np.shape(a)) == (np.asarray(b).dtype, np.shape(b))
        and np.array_equal(a, b)
        for a, b in zip(leaves, others, strict=True)
    )  # fmt: skip


def fuzz(kind: Kind, folder: pathlib.Path, count: int, seed: int) -> Counter:
    """The number of each outcome; fails at the first that is none."""
    path, read = kind.make(folder)
    expected, outcomes = read(), Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for what in bits(path, count, seed):
            try:
                with at_most(_SECONDS):
                    found = read()
            except (InputError, UnreadableImage) as error:
                assert str(error) and "\n" not in str(error), what
                outcomes["refused or passed over"] += 1
            except Exception as error:
                raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
            else:
                equal = same(found, expected)
                assert equal or not kind.sealed, f"{what}: other values, and nothing said"
                outcomes["equal" if equal else "another value, in a format without checksum"] += 1
    return outcomes


@pytest.mark.parametrize("name", KINDS)
def test_damage_is_refused_or_changes_nothing(tmp_path, name):
    fuzz(KINDS[name], tmp_path, KINDS[name].few, seed=0)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", KINDS)
def test_two_thousand_cases_of_damage(tmp_path, name):
    outcomes = fuzz(KINDS[name], tmp_path, 1600, seed=1)
    assert sum(outcomes.values()) == 2000
    print(f"{name}: {', '.join(f'{count} {outcome}' for outcome, count in sorted(outcomes.items()))}")
