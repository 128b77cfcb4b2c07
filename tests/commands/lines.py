"""Runs command lines, as processes or in this one."""

from fpsset.commands import cli
from tests.forked import Ended, Forked


def process(*arguments, code: int = 0, lines: int = 1, **environment: str) -> Ended:
    """Runs `fpsset` in a process; checks its exit code, and that an error has one line, or `lines`."""
    ended = Forked("fpsset.commands.cli", *arguments, **environment).ended()
    assert ended.code == code, ended.err
    if code == 2:
        assert_lines(ended.out, ended.err, lines)
    return ended


def refused(capsys, *arguments) -> str:
    """The error message of an invalid command line, run in this process, which is faster."""
    capsys.readouterr()
    assert cli.main(list(map(str, arguments))) == 2
    out, err = capsys.readouterr()
    assert_lines(out, err, 1)
    return err


def assert_lines(out: str, err: str, lines: int) -> None:
    assert out == "" and err.startswith("fpsset: ") and len(err.splitlines()) == lines
