"""Where compiled programs are kept."""

import os
import stat
import subprocess
import sys

import jax
import pytest

from fpsset.errors import InputError
from fpsset.runtime.programs import OFF, default_folder, keep_programs, kept_programs

FIELDS = ("compilation_cache_dir", "enable_compilation_cache", "persistent_cache_min_compile_time_secs")
FIELDS = tuple(f"jax_{name}" for name in FIELDS)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home on a machine with a GPU, and JAX as it is without variables of its cache."""
    before = {name: getattr(jax.config, name) for name in FIELDS}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def test_on_a_gpu_they_are_kept_in_the_cache_of_the_user_which_is_said_once(home, capsys):
    place = home / ".cache/fpsset/compiled"
    keep_programs()
    said = capsys.readouterr().err
    assert said.startswith(f"compiled programs are kept in {place} (") and said.count("\n") == 1
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert kept_programs() == (str(place), 0, 0, True)
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
    (place / "jit_f-0-cache").write_bytes(b"12345")
    (place / "autotuned").mkdir()
    (place / "autotuned/f").write_bytes(b"123")
    jax.config.update("jax_compilation_cache_dir", None)
    keep_programs()
    assert capsys.readouterr().err == ""
    assert kept_programs() == (str(place), 1, 8, True)


def test_a_cpu_keeps_them_only_where_asked(home, monkeypatch, tmp_path):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    keep_programs()
    assert kept_programs() == (None, None, None, None) and not (home / ".cache").exists()
    keep_programs("~/mine")
    assert kept_programs().folder == str(home / "mine") and (home / "mine").is_dir()


def test_the_variables_of_jax_win(home, monkeypatch):
    def touched():
        raise AssertionError("initialised the devices")

    monkeypatch.setattr(jax, "default_backend", touched)
    jax.config.update("jax_compilation_cache_dir", str(home / "theirs"))
    keep_programs()
    assert kept_programs() == (str(home / "theirs"), 0, 0, True)  # JAX makes it when it first compiles
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    keep_programs()
    assert kept_programs().folder is None and not (home / ".cache").exists()


def test_they_can_be_turned_off(home):
    keep_programs(OFF)
    keep_programs()
    assert kept_programs().folder is None and not (home / ".cache").exists()


@pytest.mark.parametrize("base", ["", "relative"])
def test_folders_of_the_cache(home, monkeypatch, base):
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    assert default_folder() == home / ".cache/fpsset/compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert default_folder() == home / "xdg/fpsset/compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert default_folder() is None


def test_a_cache_that_cannot_be_made_is_a_warning_and_a_folder_asked_for_an_error(home, capsys):
    (home / ".cache").write_text("a file")
    keep_programs()
    said = capsys.readouterr().err
    assert said.startswith(f"warning: compiled programs are not kept ({home}/.cache/fpsset/compiled: ")
    assert said.count("\n") == 1 and kept_programs().folder is None
    with pytest.raises(InputError, match=r"compiled programs cannot be kept there \(Not a directory\); give"):
        keep_programs(str(home / ".cache/mine"))


def test_a_bucket_is_not_listed(home):
    jax.config.update("jax_compilation_cache_dir", "gs://bucket/programs")
    assert kept_programs() == ("gs://bucket/programs", None, None, None)


def test_a_process(tmp_path):
    """Imports decide nothing; what is compiled on what looks like a GPU is kept."""
    code = (
        "import jax, fpsset, fpsset.commands.cli, fpsset.main, fpsset.runtime.programs as programs; "
        "assert not jax.config.jax_compilation_cache_dir; jax.default_backend = lambda: 'gpu'; "
        "programs.keep_programs(); jax.jit(lambda x: x + 1)(1.0); print(programs.kept_programs().count)"
    )
    removed = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**kept, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert done.stderr.startswith(f"compiled programs are kept in {tmp_path}/fpsset/compiled (")
    assert done.stderr.count("\n") == 1 and int(done.stdout) >= 1
