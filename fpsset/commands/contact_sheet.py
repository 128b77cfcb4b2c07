"""What a contact sheet shows of the faces that were found."""

import pathlib

import numpy as np

from fpsset.images.photo_faces import PhotoFaces
from fpsset.reports.contact_sheets.page import Cell, Group, write_contact_sheet


def write_sheet(path: pathlib.Path, found: PhotoFaces, title: str) -> None:
    """Writes the contact sheet of all faces, by person."""
    subjects = found.table.subject
    groups = []
    for number in sorted(np.unique(subjects).tolist(), key=lambda n: (n < 0, n)):
        rows = np.flatnonzero(subjects == number)
        name = found.people.get(number, "nobody known" if number < 0 else f"person {number}")
        cells = tuple(Cell(found.found.crops[row], face_name(found, row)) for row in rows)
        groups.append(Group(name, (), cells))
    left_out = [(one.name, one.why) for one in found.left_out]
    write_contact_sheet(path, title, found.counts(), groups, left_out)


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
