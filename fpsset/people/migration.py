"""Another model or backbone for a store: faces embedded anew, or mapped where nobody can embed them anew.

Where the new backbone's embedding of a face is given, it takes the old one's place. The others go through a
map from old embeddings to new ones, fitted by ridge regression to the faces that have both, and are marked.
What that costs is measured on people whom the map was not fitted to.
"""

from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import FeatureTable, templates
from fpsset.errors import InputError
from fpsset.evaluation.verification import operating_points
from fpsset.inference.aggregator import SetAggregator
from fpsset.people.descriptions import describe_again, in_parts
from fpsset.people.settings import Settings, read_settings, write_settings
from fpsset.people.store import Store, packed
from fpsset.people.thresholds import drop_thresholds

_FARS = (1e-3, 1e-2)
_FEWEST_PEOPLE, _FEWEST_FACES = 20, 200
_RIDGE = 1e-3  # of the mean square of the old embeddings


class Cost(NamedTuple):
    """TAR of people whom the map was not fitted to, whose faces are split into a gallery and probes.

    Attributes:
      far: its FAR.
      embedded: TAR where both are embedded anew.
      mapped: TAR where the gallery is mapped.
      people: how many, which is the number of genuine pairs.
    """

    far: float
    embedded: float
    mapped: float
    people: int


class Migrated(NamedTuple):
    """What a migration did: faces embedded anew, faces mapped, and what mapping costs, where it is known."""

    embedded: int
    mapped: int
    cost: Cost | None


class Map(NamedTuple):
    """From embeddings of one backbone to another's.

    Attributes:
      matrix: [D, D'] float64, for unit embeddings.
      scale: factor on norms.
    """

    matrix: np.ndarray
    scale: float

    def __call__(self, embeddings: np.ndarray, norms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit embeddings [M, D] and norms [M] -> those of the other backbone."""
        found = embeddings @ self.matrix
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found.astype(np.float32), (norms * self.scale).astype(np.float32)


def fit_map(old: np.ndarray, old_norms: np.ndarray, new: np.ndarray, new_norms: np.ndarray) -> Map:
    """The ridge regression of new unit embeddings [M, D'] on old ones [M, D]; norms by their median ratio."""
    old, new = old.astype(np.float64), new.astype(np.float64)
    gram = old.T @ old
    gram[np.diag_indices(len(gram))] += _RIDGE * np.trace(gram) / len(gram)
    ratio = np.median(new_norms / np.maximum(old_norms, 1e-12))
    return Map(np.linalg.solve(gram, old.T @ new), float(ratio))


def migrate(
    store: Store,
    model: SetAggregator,
    name: str,
    table: FeatureTable | None,
    prototypes: int | str | None = None,
) -> Migrated:
    """Gives a store another model, and its faces another backbone's embeddings; one change.

    Thresholds are dropped, and so are the odds of strangers if the backbone changes: both were found on other
    embeddings.

    Args:
      store: an open store.
      model: the new model.
      name: how to remember it.
      table: faces embedded by its backbone, at the same rows or paths as in the store; None if the backbone
        stays.
      prototypes: vectors a person from now on; None: as before.

    Raises:
      InputError: the store is empty, the model is another backbone's, no face is in the table, or too few to
        fit a map to where one is needed.
    """
    with store.change():
        settings = read_settings(store)
        people = [person for (person,) in store.sql.execute("select id from people")]
        if settings is None or not people:
            raise InputError(f"{store.path}: nobody is enrolled, so there is nothing to migrate")
        done = Migrated(0, 0, None)
        dim, backbone, strangers = settings.dim, settings.backbone, settings.strangers
        if table is not None:
            dim, backbone, strangers = table.dim, table.backbone, None
            done = _embed(store, model, people, table)
        if model.dim and model.dim != dim:
            raise InputError(f"{store.path}: embeddings are {dim} wide; the model takes {model.dim}")
        if backbone and model.backbone and backbone != model.backbone:
            raise InputError(
                f"{store.path}: its embeddings come from the backbone {backbone}, the model's from "
                f"{model.backbone}; give --from, the faces embedded by that one"
            )
        wanted = settings.prototypes if prototypes is None else prototypes
        made = Settings(dim, backbone, name, model.digest, wanted, strangers)
        write_settings(store, made)
        drop_thresholds(store)
        describe_again(store, model, made, people)
    return done


def _embed(store: Store, model: SetAggregator, people: list[int], table: FeatureTable) -> Migrated:
    places = table.paths.tolist() if table.paths is not None else list(range(len(table)))
    rows = {place: row for row, place in enumerate(places)}
    parts = list(in_parts(store, people))
    ids, owner, media, norms, old = (
        np.concatenate([getattr(part, column) for part in parts])
        for column in ("ids", "person", "media", "norms", "embeddings")
    )
    place = np.array([rows.get(place, -1) for part in parts for place in part.place])
    pairs = {pair for part in parts for pair in zip(part.source, part.place, strict=True)}
    shared = [place for _, place in pairs if place in rows]
    if len(set(shared)) < len(shared):
        raise InputError(f"{table.name}: several sources of the store have the same places; give paths")
    both = place >= 0
    if not both.any():
        raise InputError(
            f"{table.name}: holds no face of the store; give rows or paths as they were enrolled"
        )
    new, new_norms = np.empty((len(ids), table.dim), np.float32), np.empty(len(ids), np.float32)
    new[both], new_norms[both] = table.embeddings[place[both]], table.norms[place[both]]
    cost = None
    if not both.all():
        faces, count = int(both.sum()), len(np.unique(owner[both]))
        if faces < _FEWEST_FACES or count < _FEWEST_PEOPLE:
            raise InputError(
                f"{table.name}: {faces} faces of {count} people have both embeddings, too few to map the "
                f"other {int((~both).sum())}; give {_FEWEST_FACES} faces of {_FEWEST_PEOPLE} people, or all"
            )
        pairs = (old[both], norms[both], new[both], new_norms[both])
        cost = _cost(model, owner[both], media[both], *pairs)
        new[~both], new_norms[~both] = fit_map(*pairs)(old[~both], norms[~both])
    kept = np.empty(len(ids), np.dtype([("norm", "<f4"), ("unit", "<f2", (table.dim,))]))
    kept["norm"], kept["unit"] = new_norms, new
    store.sql.executemany(
        "update faces set face = ?, mapped = ? where id = ?",
        (
            (packed(face.tobytes()), int(not embedded), int(number))
            for face, embedded, number in zip(kept, both, ids, strict=True)
        ),
    )
    return Migrated(int(both.sum()), int((~both).sum()), cost)


def _cost(model, owner, media, old, old_norms, new, new_norms) -> Cost | None:
    """Fits the map to half of the people and scores the others, both ways; None with too few of them."""
    halves = np.unique(owner, return_inverse=True)[1] % 2
    mapped, mapped_norms = np.empty_like(new), np.empty_like(new_norms)
    for half in (0, 1):
        fitted, judged = halves != half, halves == half
        found = fit_map(old[fitted], old_norms[fitted], new[fitted], new_norms[fitted])
        mapped[judged], mapped_norms[judged] = found(old[judged], old_norms[judged])
    tables = [FeatureTable(*columns, owner, media) for columns in ((new, new_norms), (mapped, mapped_norms))]
    ids, subjects, sets = templates(tables[0])
    first = np.zeros(len(owner), np.int64)
    for place, (start, stop) in enumerate(zip(sets.starts[:-1], sets.starts[1:], strict=True)):
        first[sets.rows[start:stop]] = ids[place]
    both = np.intersect1d(subjects[ids % 2 == 0], subjects[ids % 2 == 1])
    mask = np.isin(subjects, both)
    vectors = [model.aggregate(t.embeddings, t.norms, first, media=t.media).descriptors[mask] for t in tables]
    side = ids[mask] % 2
    same = np.eye(len(both), dtype=bool).ravel()
    for far in _FARS:
        scores = [(one[side == 0] @ vectors[0][side == 1].T).ravel() for one in vectors]
        points = [operating_points(score, same, (far,))[0] for score in scores] if len(both) > 1 else []
        if points and points[0].tar is not None:
            return Cost(far, points[0].tar, points[1].tar, len(both))
    return None
