"""Atomic writing of files and folders, so that readers never see a partial one, and reading of JSON."""

import contextlib
import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterator

from fpsset.errors import InputError, first_line


def as_path(path: str | os.PathLike, absolute: bool = False):
    """A pathlib.Path, made absolute on request; for a bucket (gs://...) the equivalent etils path."""
    if "://" not in str(path):
        return pathlib.Path(path).absolute() if absolute else pathlib.Path(path)
    from etils import epath

    return epath.Path(path)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path` to write to; it replaces `path` if the block succeeds.

    Args:
      path: file to write, possibly in a bucket; its folder is created if missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields an empty temporary folder beside `path`; it replaces `path` if the block succeeds.

    Args:
      path: folder to write; its parent is created if missing.
    """
    beside = path.with_name(f".{path.name}.part")
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(beside, ignore_errors=True)
    if old.exists() and not path.exists():  # an earlier process died between the two renames below
        os.replace(old, path)
    beside.mkdir(parents=True)
    try:
        yield beside
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(beside, path)
        except BaseException:
            os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_json(path: pathlib.Path, value) -> None:
    """Writes a value as indented JSON; raises ValueError if it contains NaN or infinity."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: pathlib.Path, fix: str, kind: type = dict):
    """Reads a JSON file, whatever bytes it holds.

    Args:
      path: the file, possibly in a bucket.
      fix: how to mend it, for the message; e.g. "calibrate again".
      kind: type of the value in the file.

    Raises:
      InputError: the file is missing or unreadable, or holds anything else; see `parse_json`.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read as JSON ({error.strerror or first_line(error)}); {fix}"
        ) from error
    return parse_json(text, str(path), fix, kind)


def parse_json(text: str | bytes, name: str, fix: str, kind: type = dict):
    """Parses strict JSON: numbers are finite, and no key is given twice.

    Args:
      text: as UTF-8 if bytes.
      name: where it comes from, for the message.
      fix: see `read_json`.
      kind: see `read_json`.

    Raises:
      InputError: the text is not JSON in UTF-8, is nested too deeply, or holds NaN, infinity, an integer of
        thousands of digits, a repeated key, or a value of another kind.

    Example:
      >>> parse_json('{"threshold": NaN}', "a.json", "calibrate again")
      Traceback (most recent call last):
        ...
      fpsset.errors.InputError: a.json: cannot be read as JSON (holds NaN); calibrate again
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        value = json.loads(
            text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_without_repeats
        )
    except RecursionError as error:
        raise InputError(f"{name}: cannot be read as JSON (is nested too deeply); {fix}") from error
    except ValueError as error:  # UnicodeDecodeError too
        raise InputError(f"{name}: cannot be read as JSON ({first_line(error)}); {fix}") from error
    if not isinstance(value, kind):
        found = type(value).__name__
        raise InputError(f"{name}: cannot be read as JSON (is a {found}, not a {kind.__name__}); {fix}")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"holds {text}")
    return number


def _without_repeats(pairs: list[tuple]) -> dict:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"holds {next(name for name in names if names.count(name) > 1)!r} twice")
    return fields
