"""Atomic writing of files and folders: readers never see a partial one."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator


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
