"""What is in a store: people, and the faces of one."""

import re
from typing import NamedTuple

import numpy as np

from fpsset.people.descriptions import KEPT, SET_ASIDE, read_faces
from fpsset.people.people import person_number
from fpsset.people.store import Store


class Person(NamedTuple):
    """A person in a list."""

    name: str
    faces: int
    media: int  # stills and videos that the faces come from
    aside: int  # faces that are set aside
    mapped: int  # faces whose embeddings were mapped from another backbone's


class Face(NamedTuple):
    """A face of a person.

    Attributes:
      face: its number.
      source: the file or folder it comes from.
      place: its row or path there.
      norm: of the embedding.
      cosine: to the mean of the person's faces that count.
      state: 'counts', 'kept' by hand, 'aside' by hand, or 'stranger'.
      mapped: whether the embedding was mapped from another backbone's.
    """

    face: int
    source: str
    place: int | str
    norm: float
    cosine: float
    state: str
    mapped: bool


def listed(store: Store) -> list[Person]:
    """Everybody in a store, by name, with numbers in names by their value."""
    with store.reading():
        rows = store.sql.execute(
            "select name, count(*), count(distinct source || ' ' || medium), sum(aside), sum(mapped) "
            "from people join faces on person = people.id group by people.id"
        ).fetchall()
    return sorted((Person(*row) for row in rows), key=lambda person: _natural(person.name))


def shown(store: Store, name: str) -> list[Face]:
    """The faces of a person, those nearest to what they have in common first."""
    with store.reading():
        person = person_number(store, name)
        faces = read_faces(store, [person])
        marked = store.sql.execute("select id from faces where person = ? and mapped", (person,))
        mapped = {number for (number,) in marked}
    mean = (faces.embeddings * np.where(faces.aside, 0, faces.norms)[:, None]).sum(0)
    cosines = faces.embeddings @ (mean / max(np.linalg.norm(mean), 1e-12))
    states = [_state(*pair) for pair in zip(faces.pinned.tolist(), faces.aside.tolist(), strict=True)]
    columns = faces.ids.tolist(), faces.source, faces.place, faces.norms.tolist(), cosines.tolist(), states
    columns = *columns, [number in mapped for number in faces.ids.tolist()]
    return sorted((Face(*row) for row in zip(*columns, strict=True)), key=lambda face: -face.cosine)


def _natural(name: str) -> tuple[list, str]:
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _state(pinned: int, aside: bool) -> str:
    if pinned == KEPT:
        return "kept"
    if pinned == SET_ASIDE:
        return "aside"
    return "stranger" if aside else "counts"
