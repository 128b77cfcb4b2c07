"""A full disk: one line that names the file, what is kept and the fix, for every command that writes."""

import contextlib
import errno
import os
import resource
import shutil

import pytest

from fpsset.commands import cli
from fpsset.data.files import write_features
from fpsset.data.synthetic import make_synthetic
from fpsset.errors import DiskError, InputError
from fpsset.reports.folders import replacing_report
from fpsset.runtime.disk import writing
from fpsset.runtime.files import replacing
from tests.commands.lines import refused
from tests.published import write_published


@contextlib.contextmanager
def files_up_to(size: int):
    """Writing more to any file fails, as it does on a full disk, with EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_outermost_block_is_named():
    with pytest.raises(DiskError) as raised, writing("outer", "this is kept"), writing("inner"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(raised.value) == (
        "outer: could not be written (No space left on device); this is kept; free some space, and run the "
        "same command again"
    )
    with pytest.raises(DiskError, match="outer: could not be written"), writing("outer"):
        raise RuntimeError(f"RESOURCE_EXHAUSTED: {os.strerror(errno.EDQUOT)}")


@pytest.mark.parametrize("error", [ValueError("else"), OSError(errno.ENOENT, "no"), InputError("input")])
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as raised, writing("outer"):
        raise error
    assert raised.value is error


def test_a_file_elsewhere_that_cannot_be_read_is_not_one_written(tmp_path):
    with pytest.raises(PermissionError), writing(tmp_path / "out/a"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/b")
    with pytest.raises(DiskError), writing(tmp_path / "out/a"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "out/a.part"))


def test_a_file_from_before_is_kept(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(InputError, match=r"a\.txt: could not be written \(File too large\); .* is kept"):
        with files_up_to(10), replacing(path) as beside:
            beside.write_text("x" * 1000)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    table, _ = make_synthetic(30, 0, dim=32, stills=(1, 5), clips=(0, 1), frames=(2, 3))
    write_features(folder / "faces.npz", table)
    write_published(folder)
    return folder


@pytest.mark.parametrize(
    "arguments, name",
    [
        (["fit", "{given}/faces.npz", "{out}/model"], "model"),
        (["convert", "{given}/FaceCoresetNet.ckpt", "{out}/weights"], "weights"),
        (["aggregate", "plain", "{given}/faces.npz", "{out}/d.npz"], "d.npz"),
        (["export", "{given}/runs/quickstart", "{out}/x.stablehlo", "--platforms", "cpu"], "x.stablehlo"),
        (["select", "plain", "{given}/faces.npz", "--set", "1", "--sheet", "{out}/s.html"], "s.html"),
        (["simulate-ijb", "{out}/ijb", "--scale", "0.002", "--dim", "32"], "ijb"),
    ],
)
def test_every_command_names_what_it_could_not_write(arguments, name, given, tmp_path, capsys):
    (tmp_path / "ok").mkdir()
    # Compiles, so that JAX has nothing to write to its cache below.
    assert cli.main([argument.format(given=given, out=tmp_path / "ok") for argument in arguments]) == 0
    shutil.rmtree(tmp_path / "ok")
    arguments = [argument.format(given=given, out=tmp_path) for argument in arguments]
    with files_up_to(2000):
        said = refused(capsys, *arguments)
    assert said.startswith(f"fpsset: {tmp_path / name}: could not be written (File too large)"), said
    assert "run the same command again" in said
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "report"

    def write(text: str, *names: str) -> None:
        with replacing_report(folder) as beside:
            for name in names:
                (beside / name).write_text(text)

    def held() -> dict:
        return {path.name: path.read_text() for path in folder.iterdir()}

    write("first", "index.html", "roc.png", "cmc.png")
    with pytest.raises(InputError, match=r"report: could not be written .* the report from before is kept"):
        with files_up_to(10):
            write("x" * 1000, "index.html", "roc.png")
    assert held() == dict.fromkeys(["index.html", "roc.png", "cmc.png"], "first")
    write("second", "index.html", "roc.png")
    assert held() == dict.fromkeys(["index.html", "roc.png"], "second")
    (folder / "notes.txt").write_text("mine")
    write("third", "index.html", "det.png")
    assert held() == {"index.html": "third", "det.png": "third", "notes.txt": "mine"}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_report_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with replacing_report(tmp_path.__class__(".")) as beside:
        (beside / "index.html").write_text("page")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert os.path.samestat(os.stat("."), os.stat(tmp_path))
