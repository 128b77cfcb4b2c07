"""What a contact sheet shows of the faces that were found."""

import os
import pathlib

import numpy as np

from fpsset.images.photo_faces import PhotoFaces
from fpsset.images.sharpness import sharpness
from fpsset.inference.explanation import agreement_of
from fpsset.inference.verdicts import (
    VERDICT_RULES,
    Looks,
    judge,
    listed,
    turned_away,
    verdict_lines,
)
from fpsset.reports.contact_sheets.page import Cell, Group, write_contact_sheet


def write_sheet(path: pathlib.Path, found: PhotoFaces, title: str) -> None:
    """Writes the contact sheet of all faces, by person."""
    subjects = found.table.subject
    groups = []
    for number in sorted(np.unique(subjects).tolist(), key=lambda n: (n < 0, n)):
        rows = np.flatnonzero(subjects == number)
        name = found.people.get(number, "nobody known" if number < 0 else f"person {number}")
        names = _within(name, [face_name(found, row) for row in rows])
        lines, notes = _judged(found, rows, names) if number >= 0 else ([], [""] * len(rows))
        cells = [Cell(found.found.crops[row], *said) for row, *said in zip(rows, names, notes, strict=True)]
        groups.append(Group(name, tuple(lines), tuple(cells)))
    left_out = [(one.name, one.why) for one in found.left_out]
    write_contact_sheet(path, title, found.counts(), groups, left_out, VERDICT_RULES.sentences())


def looks_of(found: PhotoFaces, rows: np.ndarray) -> Looks:
    """What is known of the pictures of some faces."""
    faces = found.found.take(rows)
    sides = faces.boxes[:, 2:].min(axis=1)
    sharp = np.array([sharpness(faces.image(row)) for row in range(len(faces))])
    return Looks(faces.item, faces.crops, faces.inside, sides, sharp, turned_away(faces.landmarks))


def _judged(found: PhotoFaces, rows: np.ndarray, names: list[str]) -> tuple[list[str], list[str]]:
    """(what is to be said about all faces of a person, about each)."""
    table, looks = found.table.take(rows), looks_of(found, rows)
    agreement = agreement_of(table.embeddings, table.norms)
    verdicts = judge(table.embeddings, table.norms, agreement, names, table.media, looks)
    lines = verdict_lines(verdicts, names, np.zeros(0, int), table.media, looks)
    strangers = [name for name, verdict in zip(names, verdicts, strict=True) if verdict.kind == "stranger"]
    if strangers:
        looks_like = "looks" if len(strangers) == 1 else "look"
        lines.insert(0, f"{listed(strangers)} {looks_like} like someone else.")
    return lines, [verdict.why for verdict in verdicts]


def _within(person: str, names: list[str]) -> list[str]:
    """Names without the folders that lead to a person's photos, if they are all there."""
    folders = [name.rpartition("/")[0] for name in names]
    if len(set(folders)) == 1 or all(f"/{person}/" in f"/{name}" for name in names):
        prefix = os.path.commonpath([f"{folder}/" for folder in folders]) if folders[0] else ""
        return [name.removeprefix(prefix).lstrip("/") for name in names]
    return names


def face_name(found: PhotoFaces, row: int) -> str:
    """The photo's name, or the video's with the time."""
    name, time = found.table.paths[row], found.table.time[row]
    return str(name) if np.isnan(time) else f"{name} {_clock(float(time))}"


def _clock(seconds: float) -> str:
    """Seconds as m:ss.s, or h:mm:ss.s.

    >>> _clock(75.25), _clock(3675)
    ('1:15.2', '1:01:15.0')
    """
    tenths = int(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes:02}" if hours else f"{minutes}"
    return (f"{hours}:" if hours else "") + f"{clock}:{rest // 10:02}.{rest % 10}"
