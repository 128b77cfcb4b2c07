"""A store of synthetic people, what is in it, and edits of it."""

import dataclasses
import pathlib

import numpy as np

import fpsset
from fpsset.data.feature_table import FeatureTable
from fpsset.data.synthetic import make_synthetic
from fpsset.people.people import People, forget
from fpsset.people.settings import Settings
from fpsset.people.store import Store, open_store

DIM = 16
MODEL = fpsset.PlainAggregator()


def make_table(people: int = 8, seed: int = 0, most: int = 8, dim: int = DIM) -> FeatureTable:
    """At most `most` faces of each of some people, so that few shapes are compiled."""
    table = make_synthetic(people, seed, dim)[0]
    rows = [np.flatnonzero(table.subject == person)[:most] for person in range(people)]
    table = table.take(np.concatenate(rows))
    paths = [f"{name_of(person)}/{row}.png" for row, person in enumerate(table.subject)]
    return dataclasses.replace(table, template=None, seed=None, paths=np.array(paths))


def name_of(person: int) -> str:
    return f"Zoë {person:03}"


def enrolled(path: pathlib.Path, table: FeatureTable, names=None, source: str = "photos", **settings) -> None:
    """Enrols a table into the store at `path`."""
    names = [name_of(person) for person in table.subject] if names is None else names
    with open_store(path, create=True) as store:
        made = Settings(DIM, "", "plain", MODEL.digest, **settings)
        People(store, MODEL, made).enrol(table, names, source)


def edit(path: pathlib.Path, how: str, *arguments) -> None:
    """Calls a method of `People`, or forgets."""
    with open_store(path) as store:
        if how == "forget":
            forget(store, *arguments)
        else:
            getattr(People(store, MODEL), how)(*arguments)


def descriptors(store: Store) -> dict[str, bytes]:
    """The bytes of everybody's vectors and norm."""
    rows = store.sql.execute("select name, norm, vectors from people join descriptors on person = people.id")
    return {name: (norm, vectors) for name, norm, vectors in rows}


def contents(store: Store) -> dict:
    """Who has which faces, by name and place, and the descriptors."""
    rows = store.sql.execute(
        "select people.name, sources.name, place, pinned, aside, face from people "
        "join faces on person = people.id join sources on sources.id = source"
    )
    return {"faces": sorted(map(tuple, rows)), "descriptors": descriptors(store)}


def read(path: pathlib.Path) -> dict:
    """`contents` of a file, which SQLite finds whole."""
    with open_store(path) as store:
        assert store.sql.execute("pragma integrity_check").fetchone() == ("ok",)
        return contents(store)


def fresh(path: pathlib.Path, beside: pathlib.Path, table: FeatureTable, **settings) -> dict:
    """The descriptors of the faces in a store, enrolled at once in another order."""
    with open_store(path) as store:
        rows = store.sql.execute("select place, people.name from faces join people on people.id = person")
        owner = dict(rows.fetchall())
    places = np.random.default_rng(0).permutation(
        [n for n, p in enumerate(table.paths.tolist()) if p in owner]
    )
    part = table.take(places)
    enrolled(beside, part, [owner[path] for path in part.paths.tolist()], **settings)
    return read(beside)["descriptors"]
