"""A user's own protocol, as CSV or Parquet: which faces make which template, and what templates are for."""

import csv
import dataclasses
import os
import pathlib

import numpy as np

from fpsset.data.feature_table import FeatureTable, check_templates
from fpsset.data.files import read_parquet_columns
from fpsset.data.ijb import SearchLists
from fpsset.errors import InputError

_COLUMNS = ("path", "row", "template", "subject", "media", "role")
_GALLERY, _PROBE = "gallery", "probe"


def apply_protocol(table: FeatureTable, path: str | os.PathLike) -> tuple[FeatureTable, SearchLists | None]:
    """The faces that a protocol names, as it groups them.

    Args:
      table: features; with `paths` where the protocol goes by paths.
      path: `.csv` with a header, or `.parquet`. A line is a face of a template: `path` as in the features, or
        `row` counted from 0; `template`; `subject`; optional `media` (else the features'); optional
        `role`, which is 'gallery' or 'gallery:NAME', 'probe' or empty, the same for all of a template.
        Templates, subjects and media are integers or names. A face may be in several templates.

    Returns:
      (the faces, line by line; the galleries and probes, None where there are not both).

    Raises:
      InputError: the file is missing or malformed, or names a face that the features do not hold.
    """
    path = pathlib.Path(path)
    columns = _read(path)
    rows = _rows(columns, table, path)
    ids = {name: _numbers(columns[name]) for name in ("template", "subject")}
    media = _numbers(columns["media"]) if "media" in columns else table.media[rows]
    faces = dataclasses.replace(table.take(rows), **ids, media=media, name=str(path))
    check_templates(faces)
    return faces, _search(columns, faces, path) if "role" in columns else None


def _read(path: pathlib.Path) -> dict[str, list[str]]:
    """The known columns, as text."""
    if path.suffix == ".parquet":
        found = read_parquet_columns(path, _COLUMNS)
        columns = {name: list(map(str, found[name].tolist())) for name in _COLUMNS if name in found}
    else:
        columns = _read_csv(path)
    if ("path" in columns) == ("row" in columns):
        raise InputError(f"{path}: needs a column 'path' or a column 'row', to say which face a line is of")
    for name in ("template", "subject"):
        if name not in columns:
            raise InputError(f"{path}: no column '{name}' (it holds: {', '.join(columns) or 'none'})")
    if not columns["template"]:
        raise InputError(f"{path}: names no face")
    return columns


def _read_csv(path: pathlib.Path) -> dict[str, list[str]]:
    try:
        with path.open(newline="") as lines:
            reader = csv.reader(lines)
            header = [name.strip().lower() for name in next(reader, [])]
            wanted = {name: header.index(name) for name in _COLUMNS if name in header}
            columns: dict[str, list[str]] = {name: [] for name in wanted}
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise InputError(
                        f"{path}: line {reader.line_num} has {len(row)} fields, the header {len(header)}"
                    )
                for name, place in wanted.items():
                    columns[name].append(row[place].strip())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from error
    for name in ("template", "subject", "media"):
        if "" in columns.get(name, ()):
            raise InputError(f"{path}: face {columns[name].index('') + 1}: its '{name}' is empty; fill it")
    return columns


def _rows(columns: dict[str, list[str]], table: FeatureTable, path: pathlib.Path) -> np.ndarray:
    """Rows of the features: [M] int64."""
    if "row" in columns:
        places = {str(row): row for row in range(len(table))}
        what = f"row, of 0 to {len(table) - 1}"
    elif table.paths is None:
        raise InputError(f"{table.name}: no column 'paths', by which {path} names its faces; give it 'row'")
    else:
        places = {name: row for row, name in enumerate(table.paths.tolist())}
        what = "path"
    wanted = columns["row" if "row" in columns else "path"]
    for number, name in enumerate(wanted, 1):
        if name not in places:
            raise InputError(f"{path}: face {number}: {table.name} holds no such {what}: {name!r}")
    return np.array([places[name] for name in wanted], np.int64)


def _numbers(values: list[str]) -> np.ndarray:
    """Integers as they are, where all are; otherwise the places of the names in their order. [M] int64."""
    try:
        return np.array(values, np.int64)
    except (ValueError, OverflowError):
        return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _search(columns: dict[str, list[str]], faces: FeatureTable, path: pathlib.Path) -> SearchLists | None:
    roles: dict[int, str] = {}
    subject_of = dict(zip(faces.template.tolist(), faces.subject.tolist(), strict=True))
    for number, (template, role) in enumerate(zip(faces.template.tolist(), columns["role"], strict=True), 1):
        kind, _, name = role.partition(":")
        if kind not in ("", _GALLERY, _PROBE) or (name and kind != _GALLERY):
            raise InputError(
                f"{path}: face {number}: its role is {role!r}; it must be '{_GALLERY}', '{_GALLERY}:NAME', "
                f"'{_PROBE}' or empty"
            )
        if roles.setdefault(template, role) != role:
            raise InputError(
                f"{path}: face {number}: its template is {roles[template]!r} before and {role!r} here"
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
