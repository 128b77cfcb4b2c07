"""A contact sheet as a self-contained HTML page."""

import dataclasses
import pathlib

from fpsset.reports.pages import data_url, write_html

_SHOWN = 400  # faces of a group; browsers struggle with thousands of embedded pictures
_LISTED = 200  # of what is left out


@dataclasses.dataclass(frozen=True)
class Cell:
    """A face.

    Attributes:
      image: JPEG.
      name: of its photo, or of its video with the time.
      note: what is to be said about it; empty if nothing is.
    """

    image: bytes
    name: str
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Group:
    """The faces of one person, or of nobody known.

    Attributes:
      name: of the person.
      lines: what is to be said about all of them.
      cells: the faces.
    """

    name: str
    lines: tuple[str, ...]
    cells: tuple[Cell, ...]


def write_contact_sheet(
    path: pathlib.Path,
    title: str,
    lines: list[str],
    groups: list[Group],
    left_out: list[tuple[str, str]],
    rules: tuple[str, ...] = (),
) -> None:
    """Writes the page.

    Args:
      path: an .html file, replaced atomically.
      title: what was looked at.
      lines: what was found, in words.
      groups: of faces.
      left_out: (photo or video, why something of it is not shown).
      rules: how what is said about faces was decided.
    """
    shown = [
        {
            "name": group.name,
            "count": f"{len(group.cells)} {'face' if len(group.cells) == 1 else 'faces'}",
            "lines": group.lines,
            "hidden": max(0, len(group.cells) - _SHOWN),
            "cells": [
                {"image": data_url(cell.image, "jpeg"), "name": cell.name, "note": cell.note}
                for cell in group.cells[:_SHOWN]
            ],
        }
        for group in groups
    ]
    write_html(
        path,
        "contact_sheet.html",
        private=True,
        title=title,
        lines=lines,
        groups=shown,
        left_out=left_out[:_LISTED],
        more=max(0, len(left_out) - _LISTED),
        rules=rules,
    )
