"""Describes people anew from their faces: which faces count, the descriptor, and the prototypes.

Everything here is a function of a person's faces alone, in an order of their own, so that after any edits a
person's description is, to the bit, that of the same faces enrolled at once.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fpsset.data.rows import unit_rows
from fpsset.errors import InputError
from fpsset.face_set import RaggedSets
from fpsset.inference.aggregator import SetAggregator
from fpsset.people.consensus import strangers_among
from fpsset.people.exact import describe_exactly, in_order
from fpsset.people.prototypes import prototype_sets
from fpsset.people.settings import Settings
from fpsset.people.store import Store, packed
from fpsset.runtime.progress import tracked

KEPT, SET_ASIDE = 1, -1  # by hand, in the column 'pinned'; 0: as the consensus says
_FACES_AT_ONCE = 1 << 16
_VARIABLES = 1 << 12  # of an SQL statement


class Faces(NamedTuple):
    """M faces of some people, person by person and in the order of `in_order`.

    Attributes:
      ids: [M] int64.
      person: [M] int64.
      embeddings: [M, D] float32 unit rows.
      norms: [M] float32.
      media: [M] int64, equal for the faces of a still or video.
      pinned: [M] int64, `KEPT`, `SET_ASIDE` or 0.
      aside: [M] bool, whether a face is set aside.
      source: M names of files or folders.
      place: M rows or paths in these.
    """

    ids: np.ndarray
    person: np.ndarray
    embeddings: np.ndarray
    norms: np.ndarray
    media: np.ndarray
    pinned: np.ndarray
    aside: np.ndarray
    source: list[str]
    place: list


def read_faces(store: Store, people: Sequence[int]) -> Faces:
    """The faces of some people.

    Args:
      store: an open store.
      people: their numbers; at most a few thousand.
    """
    marks = ",".join("?" * len(people))
    rows = store.sql.execute(
        "select faces.id, person, sources.name, place, medium, pinned, aside, face from faces "
        f"join sources on sources.id = source where person in ({marks})",
        [int(person) for person in people],
    ).fetchall()
    ids, person, source, place, medium, pinned, aside, raw = (
        (list(column) for column in zip(*rows, strict=True)) if rows else ([] for _ in range(8))
    )
    kept = store.row_type()
    faces = np.frombuffer(b"".join(store.unpacked(raw, kept.itemsize)), kept)
    order = in_order(np.array(person), faces, source, list(map(str, place)))
    still_or_video = {
        pair: number for number, pair in enumerate(sorted(set(zip(source, medium, strict=True))))
    }
    media = [still_or_video[pair] for pair in zip(source, medium, strict=True)]
    vectors = np.zeros((0, kept["unit"].shape[0]), np.float32), np.zeros(0, np.float32)
    if len(faces):
        vectors = unit_rows(faces["unit"][order].astype(np.float32), faces["norm"][order], str(store.path))
    columns = (np.array(column, np.int64)[order] for column in (ids, person, media, pinned, aside))
    ids, person, media, pinned, aside = columns
    return Faces(
        *(ids, person, *vectors, media, pinned, aside.astype(bool)),
        [source[row] for row in order],
        [place[row] for row in order],
    )


def in_parts(store: Store, people: Sequence[int]) -> Iterator[Faces]:
    """`read_faces` of any number of people, in parts that fit in memory."""
    sizes = dict(store.sql.execute("select person, count(*) from faces group by person"))
    part, held = [], 0
    for person in people:
        size = sizes.get(person, 0)
        if part and (held + size > _FACES_AT_ONCE or len(part) == _VARIABLES):
            yield read_faces(store, part)
            part, held = [], 0
        part.append(person)
        held += size
    if part:
        yield read_faces(store, part)


def describe_again(store: Store, model: SetAggregator, settings: Settings, people: Sequence[int]) -> None:
    """Describes people from the faces they now have, inside a change; who has none is removed.

    Args:
      store: inside `Store.change`.
      model: of the store.
      settings: of the store.
      people: their numbers.

    Raises:
      InputError: somebody's faces have no descriptor, or are all set aside by hand.
    """
    parts = in_parts(store, people)
    if len(people) > _VARIABLES:
        parts = tracked(parts, len(people), "describing", "people", lambda faces: len(set(faces.person)))
    found = set()
    for faces in parts:
        if len(faces.ids):
            found.update(np.unique(faces.person).tolist())
            _describe(store, model, settings, faces)
    gone = [(int(person),) for person in people if person not in found]
    store.sql.executemany("delete from descriptors where person = ?", gone)
    store.sql.executemany("delete from people where id = ?", gone)
    if gone:
        forget_sources(store)


def forget_sources(store: Store) -> None:
    """Removes the names of files and folders from which no face comes any more."""
    store.sql.execute("delete from sources where id not in (select source from faces)")


def _describe(store: Store, model: SetAggregator, settings: Settings, faces: Faces) -> None:
    people = np.unique(faces.person)
    names = _Names(store, people)
    aside = faces.pinned == SET_ASIDE
    for place in np.flatnonzero(~np.isin(people, faces.person[~aside])):
        raise InputError(
            f"{store.path}: {names[place]!r} would have no face left but those set aside; put one of them "
            f"back first, or forget {names[place]!r}"
        )
    if settings.strangers is not None:
        judged = faces.pinned == 0
        sets = _sets(faces, ~aside)
        aside |= judged & strangers_among(sets, np.array(settings.strangers))
    changed = np.flatnonzero(aside != faces.aside)
    store.sql.executemany(
        "update faces set aside = ? where id = ?",
        zip(aside[changed].tolist(), faces.ids[changed].tolist(), strict=True),
    )
    sets = _sets(faces, ~aside)
    found = describe_exactly(model, sets, names)
    vectors = [[one] for one in found.vectors]
    if settings.prototypes != 1:
        parts, owner = prototype_sets(sets, settings.prototypes)
        several = describe_exactly(model, parts, _Names(store, people[owner])).vectors
        for place, one in zip(owner, several, strict=True):
            vectors[place].append(one)
    store.sql.executemany(
        "insert or replace into descriptors values (?, ?, ?)",
        (
            (int(person), float(norm), packed(np.array(_without_repeats(rows), np.float16).tobytes()))
            for person, norm, rows in zip(people, found.norms, vectors, strict=True)
        ),
    )


def _without_repeats(vectors: list) -> list:
    """A person's descriptor and prototypes; a single prototype is the descriptor."""
    return vectors[:1] if len(vectors) == 2 else vectors


def _sets(faces: Faces, kept: np.ndarray) -> RaggedSets:
    """The faces that count, as one set for each person."""
    rows = np.flatnonzero(kept)
    people = np.unique(faces.person)
    starts = np.searchsorted(faces.person[rows], people, side="left")
    return RaggedSets(faces.embeddings, faces.norms, faces.media, rows, np.append(starts, len(rows)))


class _Names:
    """The names of people by their places in a list, read when a message needs one."""

    def __init__(self, store: Store, people: np.ndarray):
        self._store, self._people = store, people

    def __getitem__(self, place: int) -> str:
        number = int(self._people[place])
        row = self._store.sql.execute("select name from people where id = ?", (number,)).fetchone()
        return row[0] if row else f"person {number}"
