"""Whose the faces of photos and videos are: a folder's person, somebody known, or one of a video's people."""

import collections
from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import UNKNOWN_SUBJECT, FeatureTable
from fpsset.images.choosing import Candidates, choose_person
from fpsset.images.found_faces import STILL, FoundFaces
from fpsset.images.photo_listing import Sources
from fpsset.images.tracks import ALIKE, mean_vectors


class LeftOut(NamedTuple):
    """Faces, or a photo, that are not in the table.

    Attributes:
      name: of the photo or video.
      kind: 'no face', 'too small', 'other people' or 'unreadable'.
      why: in words.
      count: faces; 1 for a photo or video.
    """

    name: str
    kind: str
    why: str
    count: int = 1


def subjects_of(
    sources: Sources,
    faces: FoundFaces,
    media: np.ndarray,
    same: dict[int, int],
    known: FeatureTable | None,
    crowded: set[int],
) -> tuple[np.ndarray, np.ndarray, dict[int, str], list[LeftOut]]:
    """([M] int64 subjects, [M] bool which are kept, names of the subjects, the faces of others)."""
    subject, kept = np.full(len(faces), UNKNOWN_SUBJECT), np.ones(len(faces), bool)
    people: dict[int, str] = {}
    others: list[LeftOut] = []
    called = {} if known is None else _names_of(known)
    numbers = {name: number for number, name in called.items()}
    base = max(called, default=-1) + 1
    person_of = np.array([item.person for item in sources.items], object)[faces.item]
    for name in sources.people:
        rows = np.flatnonzero(person_of == name)
        if not len(rows):
            continue
        own, groups = faces.take(rows), _groups(faces.take(rows), media[rows], same)
        chosen = choose_person(_candidates(own, groups, media[rows], crowded))[groups]
        number = numbers.get(name, base + len(people))
        people[number] = name
        subject[rows], kept[rows] = number, chosen
        for item in np.unique(own.item[~chosen]):
            count = int((own.item[~chosen] == item).sum())
            alone = not (own.item[chosen] == item).any()
            said = f"{count_faces(count)} of other people"
            why = said + (", and none like the person's others" if alone else "")
            others.append(LeftOut(sources.items[item].name, "other people", why, count))
    unknown = person_of == None  # noqa: E711  elementwise
    _assign_unknown(sources, faces, media, same, np.flatnonzero(unknown), subject, people, base + len(people))
    if known is not None:
        _recognise(faces, media, np.flatnonzero(unknown), subject, people, known, called, same)
    return subject, kept, people, others


def _names_of(known: FeatureTable) -> dict[int, str]:
    """The name of each subject: its own, or where there are only numbers, the number and the file."""
    ids, first = np.unique(known.subject, return_index=True)
    names = known.named("subject")[first].tolist()
    if "subject" not in known.labels:
        names = [f"subject {number} of {known.name}" for number in names]
    return dict(zip(ids.tolist(), names, strict=True))


def _groups(own: FoundFaces, media: np.ndarray, same: dict[int, int]) -> np.ndarray:
    """[M] int64 candidates: each face of a photo, and each track."""
    keys = [("track", m) if m in same else ("face", row) for row, m in enumerate(media.tolist())]
    numbers: dict[tuple, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _candidates(own: FoundFaces, groups: np.ndarray, media: np.ndarray, crowded: set[int]) -> Candidates:
    """The candidates among a person's faces; in `crowded` photos there are others, which are too small."""
    count = int(groups.max()) + 1
    first = np.unique(groups, return_index=True)[1]
    area = np.zeros(count, np.float32)
    np.maximum.at(area, groups, own.boxes[:, 2] * own.boxes[:, 3])
    norms = np.zeros(count, np.float32)
    np.add.at(norms, groups, own.norms)
    faces = np.bincount(groups, minlength=count)
    moments = collections.defaultdict(set)
    for group, item, time in zip(groups, own.item, own.time, strict=True):
        if time != STILL:
            moments[(item, time)].add(int(group))
    clashes = {pair for seen in moments.values() for pair in _pairs(sorted(seen))}
    still = own.time[first] == STILL
    others = np.array([item in crowded for item in own.item[first].tolist()], bool)
    places = np.where(still, -1 - own.item[first], media[first])
    place = np.unique(places, return_inverse=True)[1].reshape(-1)
    alone = (np.bincount(place)[place] == 1) & still & ~others
    return Candidates(
        mean_vectors(own, groups, count), norms / faces, place, alone, faces, area, sorted(clashes)
    )


def _pairs(numbers: list[int]) -> list[tuple[int, int]]:
    return [(a, b) for i, a in enumerate(numbers) for b in numbers[i + 1 :]]


def _assign_unknown(
    sources: Sources,
    faces: FoundFaces,
    media: np.ndarray,
    same: dict[int, int],
    rows: np.ndarray,
    subject: np.ndarray,
    people: dict[int, str],
    start: int,
) -> None:
    """Gives the tracks of videos of nobody known their own subjects, those that look alike the same."""
    numbers: dict[int, int] = {}
    within: collections.Counter = collections.Counter()
    for row in rows:
        who = same.get(int(media[row]))
        if who is None:
            continue
        if who not in numbers:
            numbers[who] = start + len(numbers)
            item = int(faces.item[row])
            within[item] += 1
            people[numbers[who]] = f"{sources.items[item].name}, person {within[item]}"
        subject[row] = numbers[who]


def _recognise(
    faces: FoundFaces,
    media: np.ndarray,
    rows: np.ndarray,
    subject: np.ndarray,
    people: dict[int, str],
    known: FeatureTable,
    called: dict[int, str],
    same: dict[int, int],
) -> None:
    """Assigns faces and tracks to the known person whom they resemble most, if they look alike."""
    ids, codes = np.unique(known.subject, return_inverse=True)
    means = np.zeros((len(ids), known.dim), np.float32)
    np.add.at(means, codes, known.embeddings * known.norms[:, None])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    if not len(rows):
        return
    own = faces.take(rows)
    groups = _groups(own, media[rows], same)
    cosines = mean_vectors(own, groups, int(groups.max()) + 1) @ means.T
    best = cosines.argmax(axis=1)
    alike = cosines.max(axis=1) >= ALIKE
    subject[rows] = np.where(alike[groups], ids[best[groups]], subject[rows])
    for number in np.unique(subject[rows][alike[groups]]).tolist():
        people[number] = called[number]
    for number in [n for n in people if n >= 0 and not (subject == n).any()]:
        del people[number]


def count_faces(faces: int) -> str:
    """So many faces, in words."""
    return count_of(faces, "face")


def count_of(count: int, noun: str) -> str:
    """So many of something, in words."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
