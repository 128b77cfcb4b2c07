"""User-defined protocols in CSV or Parquet: which faces form each template, and the galleries and probes."""

import csv
import dataclasses
import os
import pathlib

import numpy as np

from fpsset.data.face_lists import TEXT
from fpsset.data.feature_table import FeatureTable, check_templates
from fpsset.data.ijb import SearchLists
from fpsset.data.parquet import is_parquet, read_parquet
from fpsset.errors import InputError

_COLUMNS = ("path", "row", "template", "subject", "media", "role")
_GALLERY, _PROBE = "gallery", "probe"


def apply_protocol(table: FeatureTable, path: str | os.PathLike) -> tuple[FeatureTable, SearchLists | None]:
    """Selects and groups the faces that a protocol lists.

    Args:
      table: the features; they need `paths` if the protocol identifies faces by path.
      path: `.csv` with a header, its fields separated by commas, semicolons or tabs; or `.parquet`. Each line
        puts one face into a template: `path` as in the features, or `row` counted from 0; `template`;
        `subject`; optional `media`, by default that of the features; optional `role`: 'gallery',
        'gallery:NAME', 'probe' or empty, the same on every line of a template. Templates, subjects and media
        are integers or names. A face may be in several templates.

    Returns:
      (one face per line of the protocol; its 1:N lists, or None unless there are galleries and probes).

    Raises:
      InputError: the file is missing or malformed, or names a face that is not in the features.
    """
    path = pathlib.Path(path)
    columns = _read(path)
    rows = _rows(columns, table, path)
    ids = {name: _integer_ids(columns[name]) for name in ("template", "subject")}
    media = _integer_ids(columns["media"]) if "media" in columns else table.media[rows]
    faces = dataclasses.replace(table.take(rows), **ids, media=media, name=str(path))
    check_templates(faces)
    return faces, _search_lists(columns, faces, path) if "role" in columns else None


def _read(path: pathlib.Path) -> dict[str, list[str]]:
    """Reads the known columns as text."""
    if is_parquet(path):
        found = read_parquet(path, _COLUMNS)
        columns = {name: list(map(str, found[name].tolist())) for name in _COLUMNS if name in found}
    else:
        columns = _read_csv(path)
    if ("path" in columns) == ("row" in columns):
        raise InputError(f"{path}: needs a column 'path' or a column 'row', but not both, to identify faces")
    for name in ("template", "subject"):
        if name not in columns:
            raise InputError(f"{path}: no column '{name}' (it has: {', '.join(columns) or 'none'}); add it")
    if not columns["template"]:
        raise InputError(f"{path}: lists no faces; add a line for each face")
    return columns


def _read_csv(path: pathlib.Path) -> dict[str, list[str]]:
    try:
        with path.open(newline="", encoding=TEXT) as lines:
            reader = csv.reader(lines, delimiter=_delimiter(lines.readline()))
            lines.seek(0)
            header = [name.strip().lower() for name in next(reader, [])]
            wanted = {name: header.index(name) for name in _COLUMNS if name in header}
            columns: dict[str, list[str]] = {name: [] for name in wanted}
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise InputError(
                        f"{path}: line {reader.line_num} has {len(row)} fields, the header has {len(header)}"
                    )
                for name, place in wanted.items():
                    columns[name].append(row[place].strip())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from error
    for name in ("template", "subject", "media"):
        if "" in columns.get(name, ()):
            raise InputError(f"{path}: face {columns[name].index('') + 1}: '{name}' is empty; fill it in")
    return columns


def _delimiter(header: str) -> str:
    """Commas, or what spreadsheets write in their place: the sign that a header has most often."""
    return max(",;\t", key=header.count)


def _rows(columns: dict[str, list[str]], table: FeatureTable, path: pathlib.Path) -> np.ndarray:
    """The row in the features of each listed face: [M] int64."""
    if "row" in columns:
        row_of = {str(row): row for row in range(len(table))}
        kind = f"row (0 to {len(table) - 1})"
    elif table.paths is None:
        raise InputError(
            f"{table.name}: no column 'paths', by which {path} identifies faces; use 'row' in the protocol"
        )
    else:
        row_of = {name: row for row, name in enumerate(table.paths.tolist())}
        kind = "path"
    wanted = columns["row" if "row" in columns else "path"]
    for number, name in enumerate(wanted, 1):
        if name not in row_of:
            raise InputError(f"{path}: face {number}: {table.name} has no {kind} {name!r}")
    return np.array([row_of[name] for name in wanted], np.int64)


def _integer_ids(values: list[str]) -> np.ndarray:
    """[M] int64: the values themselves if all are integers, otherwise their ranks among the sorted names.

    A column is of integers only if writing them gives the same text: '007' and '7' are two names.
    """
    try:
        integers = np.array(values, np.int64)
    except (ValueError, OverflowError):
        integers = None
    if integers is None or list(map(str, integers.tolist())) != values:
        return np.unique(values, return_inverse=True)[1].astype(np.int64)
    return integers


def _search_lists(
    columns: dict[str, list[str]], faces: FeatureTable, path: pathlib.Path
) -> SearchLists | None:
    """Collects galleries and probes from the roles of the templates."""
    roles: dict[int, str] = {}
    subject_of = dict(zip(faces.template.tolist(), faces.subject.tolist(), strict=True))
    for number, (template, role) in enumerate(zip(faces.template.tolist(), columns["role"], strict=True), 1):
        kind, _, name = role.partition(":")
        if kind not in ("", _GALLERY, _PROBE) or (name and kind != _GALLERY):
            raise InputError(
                f"{path}: face {number}: role is {role!r}; it must be '{_GALLERY}', '{_GALLERY}:NAME', "
                f"'{_PROBE}' or empty"
            )
        if roles.setdefault(template, role) != role:
            raise InputError(
                f"{path}: face {number}: role is {role!r}, but {roles[template]!r} on an earlier line of the "
                "same template; use one role per template"
            )
    lists: dict[str, list[tuple[int, int]]] = {}
    for template, role in sorted(roles.items()):
        lists.setdefault(role, []).append((template, subject_of[template]))
    probes = lists.pop(_PROBE, [])
    lists.pop("", None)
    if not probes or not lists:
        return None
    galleries = {role.partition(":")[2] or _GALLERY: np.array(rows, np.int64) for role, rows in lists.items()}
    return SearchLists(galleries, np.array(probes, np.int64))
