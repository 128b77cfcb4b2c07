"""People in a store: enrolled from tables of faces, and edited face by face."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.errors import InputError
from fpsset.evaluation.protocols import require_backbone
from fpsset.inference.aggregator import SetAggregator
from fpsset.people.descriptions import KEPT, SET_ASIDE, describe_again, forget_sources
from fpsset.people.settings import Settings, read_settings, require_model, write_settings
from fpsset.people.store import Store, packed

_LONGEST_NAME = 500
_LISTED = 5


class Enrolled(NamedTuple):
    """What an enrolment did."""

    people: int  # with new faces
    new_people: int
    faces: int
    known_faces: int  # that were enrolled from there before, and were left as they are


class People:
    """People in an open store, as one model describes them.

    Every method is one change: it takes place as a whole or not at all, and ends with descriptors that equal,
    to the bit, those of the same faces enrolled at once.
    """

    def __init__(self, store: Store, model: SetAggregator, settings: Settings | None = None):
        """Takes an open store and its model.

        Args:
          store: see `open_store`.
          model: that the store was made with.
          settings: of a new store.

        Raises:
          InputError: the store is another model's, or is new and has no settings.
        """
        self.store, self.model = store, model
        held = read_settings(store)
        if held is None and settings is None:
            raise InputError(f"{store.path}: nobody is enrolled; begin with fpsset people {store.path} enrol")
        self.settings = held or settings
        require_model(store, self.settings, model)

    def enrol(self, table: FeatureTable, names: Sequence[str], source: str) -> Enrolled:
        """Adds faces to people, who are made where there are none of that name.

        Faces that were enrolled from the same place before stay as they are, wherever they have been moved.

        Args:
          table: M faces.
          names: M names of people.
          source: the file or folder that the faces come from.

        Raises:
          InputError: the embeddings are another backbone's, the store has another face from the same place,
            or somebody's faces have no descriptor.
        """
        names = [checked_name(name) for name in names]
        with self.store.change():
            self._require_backbone(table)
            number = self._source(source)
            places = table.paths.tolist() if table.paths is not None else list(range(len(table)))
            faces = self._packed(table)
            new, media = self._unknown(number, places, table.media.tolist(), faces, source)
            people, made = self._numbers([names[row] for row in new])
            self.store.sql.executemany(
                "insert into faces (person, source, place, medium, pinned, aside, face) "
                "values (?, ?, ?, ?, 0, 0, ?)",
                (
                    (person, number, places[row], media[row], faces[row])
                    for row, person in zip(new, people, strict=True)
                ),
            )
            changed = list(dict.fromkeys(people))
            self._describe(changed)
        return Enrolled(len(changed), made, len(new), len(places) - len(new))

    def move(self, faces: Sequence[int], name: str) -> list[str]:
        """Moves faces to a person, who is made if there is none of that name.

        Returns:
          The names of those who have no face left, and are no more.
        """
        with self.store.change():
            before = self._owners(faces)
            (person,), _ = self._numbers([checked_name(name)])
            self.store.sql.executemany(
                "update faces set person = ?, pinned = 0 where id = ?",
                [(person, int(face)) for face in faces],
            )
            return self._described([*before, person])

    def remove(self, faces: Sequence[int]) -> list[str]:
        """Removes faces; returns the names of those who have none left, and are no more."""
        with self.store.change():
            before = self._owners(faces)
            self.store.sql.executemany("delete from faces where id = ?", [(int(face),) for face in faces])
            gone = self._described(before)
            forget_sources(self.store)
            return gone

    def set_aside(self, faces: Sequence[int]) -> None:
        """Sets faces aside by hand: they stay in the store, but no descriptor rests on them."""
        self._pin(faces, SET_ASIDE)

    def put_back(self, faces: Sequence[int]) -> None:
        """Puts faces back that were set aside, whatever the consensus says."""
        self._pin(faces, KEPT)

    def tell_strangers(self, odds: np.ndarray | None) -> int:
        """Sets aside, now and after every edit, faces that are rather a stranger's than their person's.

        Args:
          odds: from `fpsset.people.consensus.fit_odds`; None puts back all but those set aside by hand.

        Returns:
          How many faces are set aside, by hand or as a stranger's.
        """
        with self.store.change():
            self.settings = self.settings._replace(strangers=None if odds is None else odds.tolist())
            write_settings(self.store, self.settings)
            self._describe([person for (person,) in self.store.sql.execute("select id from people")])
            return self.store.sql.execute("select sum(aside) from faces").fetchone()[0] or 0

    def merge(self, names: Sequence[str], into: str) -> None:
        """Makes the faces of several people those of one, who must be in the store like the others."""
        with self.store.change():
            person = self.number(into)
            others = [number for number in map(self.number, names) if number != person]
            for other in others:
                self.store.sql.execute("update faces set person = ? where person = ?", (person, other))
            self._describe([*others, person])

    def holds(self, table: FeatureTable) -> np.ndarray:
        """[M] bool, whether a face of the same embedding and norm is enrolled, from whatever place."""
        enrolled = {hash(face) for (face,) in self.store.sql.execute("select face from faces")}
        return np.array([hash(face) in enrolled for face in self._packed(table)], bool)

    def number(self, name: str) -> int:
        """The number of a person; raises InputError if there is nobody of that name."""
        return person_number(self.store, name)

    def _require_backbone(self, table: FeatureTable) -> None:
        store = f"the store {self.store.path}"
        require_backbone(table, self.settings.dim, self.settings.backbone, store)
        if read_settings(self.store) is None:
            write_settings(self.store, self.settings)
        elif table.backbone and not self.settings.backbone:
            self.settings = self.settings._replace(backbone=table.backbone)
            write_settings(self.store, self.settings)

    def _packed(self, table: FeatureTable) -> list[bytes]:
        faces = np.empty(len(table), self.store.row_type())
        faces["norm"], faces["unit"] = table.norms, table.embeddings
        return [packed(face.tobytes()) for face in faces]

    def _source(self, name: str) -> int:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{name!r}: is no text (it is not UTF-8); rename it") from error
        self.store.sql.execute("insert or ignore into sources (name) values (?)", (name,))
        return self.store.sql.execute("select id from sources where name = ?", (name,)).fetchone()[0]

    def _unknown(
        self, number: int, places: list, media: list[int], faces: list[bytes], source: str
    ) -> tuple[list[int], list[int]]:
        """(The rows that were not enrolled from there before, the store's number of the medium of each row).

        Media are numbered anew, since a folder's change when images are added: a medium is the one that faces
        known before belong to.
        """
        rows = self.store.sql.execute("select place, face, id, medium from faces where source = ?", (number,))
        known = {place: (raw, face, medium) for place, raw, face, medium in rows}
        numbers = {
            medium: known[place][2] for place, medium in zip(places, media, strict=True) if place in known
        }
        free = 1 + max((medium for *_, medium in known.values()), default=-1)
        numbers |= {
            medium: free + n for n, medium in enumerate(dict.fromkeys(m for m in media if m not in numbers))
        }
        new = []
        for row, place in enumerate(places):
            raw, face, _ = known.setdefault(place, (faces[row], None, 0))
            if face is None:
                new.append(row)
            if raw != faces[row]:
                what = f"face {face} came from there before, with another embedding; remove it first"
                if face is None:
                    what = "comes twice, with two embeddings; leave one of them out"
                raise InputError(f"{source}: {place if isinstance(place, str) else f'row {place}'}: {what}")
        return new, [numbers[medium] for medium in media]

    def _numbers(self, names: list[str]) -> tuple[list[int], int]:
        """(The number of the person of each name, how many of them are new)."""
        known = dict(self.store.sql.execute("select name, id from people"))
        before = len(known)
        for name in names:
            if name not in known:
                made = self.store.sql.execute("insert into people (name) values (?)", (name,))
                known[name] = made.lastrowid
        return [known[name] for name in names], len(known) - before

    def _owners(self, faces: Sequence[int]) -> list[int]:
        """The people that faces belong to; raises InputError for a face that is not in the store."""
        owners = []
        for face in faces:
            row = self.store.sql.execute("select person from faces where id = ?", (int(face),)).fetchone()
            if row is None:
                raise InputError(
                    f"{self.store.path}: has no face {face}; fpsset people STORE show NAME lists them"
                )
            owners.append(row[0])
        return list(dict.fromkeys(owners))

    def _name(self, person: int) -> str:
        return self.store.sql.execute("select name from people where id = ?", (person,)).fetchone()[0]

    def _pin(self, faces: Sequence[int], how: int) -> None:
        with self.store.change():
            owners = self._owners(faces)
            marks = [(how, int(face)) for face in faces]
            self.store.sql.executemany("update faces set pinned = ? where id = ?", marks)
            self._describe(owners)

    def _describe(self, people: Sequence[int]) -> None:
        people = list(dict.fromkeys(people))
        describe_again(self.store, self.model, self.settings, people)

    def _described(self, people: list[int]) -> list[str]:
        """Describes people again; the names of those who are no more."""
        people = list(dict.fromkeys(people))
        names = [self._name(person) for person in people]
        self._describe(people)
        left = "select 1 from people where id = ?"
        return [
            name
            for person, name in zip(people, names, strict=True)
            if not self.store.sql.execute(left, (person,)).fetchone()
        ]


def forget(store: Store, names: Sequence[str]) -> int:
    """Removes people, and every byte that tells of them, from the file. Needs no model.

    Faces that were moved from them to others are these others', and so are the paths they came from.

    Returns:
      How many faces they had.

    Raises:
      InputError: there is nobody of a name; or they are forgotten but the file could not be rewritten.
    """
    with store.change():
        people = [person_number(store, name) for name in dict.fromkeys(names)]
        count = 0
        for person in people:
            count += store.sql.execute("delete from faces where person = ?", (person,)).rowcount
            store.sql.execute("delete from descriptors where person = ?", (person,))
            store.sql.execute("delete from people where id = ?", (person,))
        forget_sources(store)
        store.put("wipe", True)  # if this process is killed now, the next one that opens the store wipes it
    try:
        store.wipe()
    except InputError as error:
        raise InputError(
            f"{store.path}: they are forgotten, but their bytes are still in the file, which could not be "
            f"rewritten ({error}); once that is mended, any command on it does so"
        ) from error
    return count


def rename(store: Store, name: str, new: str) -> None:
    """Gives a person another name, which nobody may have. Needs no model."""
    with store.change():
        person, new = person_number(store, name), checked_name(new)
        if store.sql.execute("select 1 from people where name = ?", (new,)).fetchone():
            raise InputError(f"{store.path}: {new!r} is in the store too; merge the two instead")
        store.sql.execute("update people set name = ? where id = ?", (new, person))


def person_number(store: Store, name: str) -> int:
    """The number of a person; raises InputError if there is nobody of that name."""
    name = checked_name(name)
    row = store.sql.execute("select id from people where name = ?", (name,)).fetchone()
    if row is None:
        some = store.sql.execute("select name from people order by name limit ?", (_LISTED + 1,)).fetchall()
        listed = ", ".join(one for (one,) in some[:_LISTED]) + ", ..." * (len(some) > _LISTED)
        raise InputError(f"{store.path}: holds nobody named {name!r}; it holds {listed or 'nobody at all'}")
    return row[0]


def checked_name(name: str) -> str:
    """A name as it is kept: in Unicode's composed form, so that one name is one person on every system.

    Raises:
      InputError: it is empty, begins or ends with a blank, is longer than 500 characters, or is not text.
    """
    name = unicodedata.normalize("NFC", name)
    if not name or name != name.strip() or len(name) > _LONGEST_NAME:
        raise InputError(
            f"{name[:60]!r}: is no name of a person; give 1 ... {_LONGEST_NAME} characters, no blanks around"
        )
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name!r}: is no name of a person (it is not UTF-8); rename the folder") from error
    return name


def names_of(table: FeatureTable) -> list[str]:
    """The names of a table's people: as the table names them, or their folders, or else their numbers.

    A person's folder is the first part of the paths, if every person has one of their own.

    Args:
      table: M faces of known people.

    Returns:
      M names.
    """
    numbers = [str(subject) for subject in table.named("subject").tolist()]
    if table.paths is None or "subject" in table.labels:
        return numbers
    folders = [path.partition("/") for path in table.paths.tolist()]
    if not all(folder and rest for folder, _, rest in folders):
        return numbers
    pairs = set(zip(table.subject.tolist(), (folder for folder, *_ in folders), strict=True))
    if len(pairs) != len({subject for subject, _ in pairs}) or len(pairs) != len({name for _, name in pairs}):
        return numbers
    return [folder for folder, *_ in folders]
