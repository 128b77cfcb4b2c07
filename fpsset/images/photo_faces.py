"""From photos and videos to a feature table, with what is left out and why."""

import collections
import dataclasses
import pathlib
import re

import numpy as np

from fpsset.data.feature_table import UNKNOWN_SUBJECT, FeatureTable
from fpsset.errors import InputError
from fpsset.images.finding import Finder, FindingOptions, Seen
from fpsset.images.finding_parts import forget_parts, see_all
from fpsset.images.found_faces import STILL, FoundFaces, join
from fpsset.images.listing import MEDIA_PATTERN
from fpsset.images.photo_listing import Sources
from fpsset.images.photos import require_reader
from fpsset.images.recognisers import Recogniser, warn_of_equal_norms
from fpsset.images.subjects import LeftOut, count_faces, count_of, subjects_of
from fpsset.images.tracks import require_tracker, same_people, track_faces
from fpsset.images.video import require_pyav


@dataclasses.dataclass(frozen=True)
class PhotoFaces:
    """The faces of photos and videos.

    Attributes:
      table: M faces.
      found: the same, as they were found.
      people: name of each subject of the table but the unknown.
      left_out: all that is not in the table.
      several: names of photos with several faces of people who are not known.
    """

    table: FeatureTable
    found: FoundFaces
    people: dict[int, str]
    left_out: list[LeftOut]
    several: list[str]

    def image(self, row: int) -> np.ndarray:
        """An aligned face: [112, 112, 3] uint8, RGB."""
        return self.found.image(row)

    def named_table(self) -> FeatureTable:
        """The table, in which people have their names; see `FeatureTable.named`."""
        ids = sorted(self.people, key=self.people.__getitem__)
        rank = {number: place for place, number in enumerate(ids)}
        subject = np.array([rank.get(number, UNKNOWN_SUBJECT) for number in self.table.subject.tolist()])
        names = np.array([self.people[number] for number in ids], str)
        return dataclasses.replace(self.table, subject=subject, labels={"subject": names} if ids else {})

    def counts(self) -> list[str]:
        """Lines that count what was found and what was left out."""
        photos = len(np.unique(self.found.item[self.found.time == STILL]))
        moving = self.found.time != STILL
        tracks = len(np.unique(self.table.media[moving]))
        parts = [f"{count_faces(int((~moving).sum()))} in {count_of(photos, 'photo')}"] if photos else []
        parts += (
            [f"{count_faces(int(moving.sum()))} in {count_of(tracks, 'track')} of videos"] if tracks else []
        )
        people = len(self.people)
        lines = [" and ".join(parts) + (f", {people} {'person' if people == 1 else 'people'}" * bool(people))]
        for kind, one, many in (
            ("no face", "photo or video shows no face", "photos and videos show no face"),
            ("too small", "face is too small", "faces are too small"),
            ("other people", "face is of other people", "faces are of other people"),
            ("unreadable", "file cannot be read", "files cannot be read"),
        ):
            if count := sum(left.count for left in self.left_out if left.kind == kind):
                lines.append(f"{count} {one if count == 1 else many}")
        if self.several:
            photos = count_of(len(self.several), "photo")
            lines.append(f"{photos} with several people, whose names are not known")
        return lines


def find_photo_faces(
    sources: Sources,
    recogniser: Recogniser,
    options: FindingOptions,
    known: FeatureTable | None = None,
    out: pathlib.Path | None = None,
) -> PhotoFaces:
    """Finds, aligns and embeds the faces of photos and videos, and decides whose they are.

    Of people who are known by folders, the face most like that person's others is taken from each photo,
    and the tracks like them from each video. Elsewhere all faces are taken: those of photos are of nobody
    known, and tracks of a video that look like one person are one subject. `known` gives both a name.

    Args:
      sources: photos and videos.
      recogniser: embeds.
      options: how faces are found.
      known: faces of known people, to whom those that nobody is known for are compared.
      out: a file, beside which what was found is kept until `forget_parts`.

    Raises:
      InputError: a library is missing, or no face is found.
    """
    items = sources.items
    require_reader([item.path for item in items if not item.is_video])
    if any(item.moves for item in items):
        require_tracker()
    for item in items:
        if item.is_video:
            require_pyav(item.path)
            break
    with Finder(items, recogniser, options) as finder:
        seen = see_all(finder, items, options, recogniser.card.digest, out)
    faces = join([part.faces for part in seen])
    left_out = _unusable(sources, seen, faces)
    if not len(faces):
        reasons = collections.Counter(one.kind for one in left_out)
        said = ", ".join(f"{count} {kind}" for kind, count in reasons.most_common())
        if out is not None:  # a list of other sources, or another detector, comes next
            forget_parts(out)
        raise InputError(f"{items[0].name}: no face found in {len(items)} photos and videos ({said})")
    if known is not None and known.dim != faces.embeddings.shape[1]:
        raise InputError(
            f"{known.name}: embeddings are {known.dim} wide, but those here {faces.embeddings.shape[1]}; "
            "give features of the same recogniser"
        )
    warn_of_equal_norms(faces.norms)
    media, same = _media(sources, seen, faces, options.rate)
    crowded = {item for part in seen for item, _ in part.small}
    subject, kept, people, others = subjects_of(sources, faces, media, same, known, crowded)
    left_out += others
    several = []
    counts = collections.Counter(faces.item[kept].tolist())
    for number, item in enumerate(items):
        if item.person is None and not item.moves and counts[number] > 1:
            several.append(item.name)
    faces, media, subject = faces.take(kept), media[kept], subject[kept]
    order = np.lexsort((faces.time, media, faces.item))
    faces, media, subject = faces.take(order), media[order], subject[order]
    media = np.unique(media, return_inverse=True)[1].reshape(-1)
    table = FeatureTable(
        embeddings=_unit(faces.embeddings),
        norms=faces.norms,
        subject=subject,
        media=media.astype(np.int64),
        paths=np.array([items[i].name for i in faces.item], str),
        score=faces.scores,
        time=np.where(faces.time == STILL, np.nan, faces.time),
        box=faces.boxes,
        backbone=recogniser.card.digest,
        name=items[0].name,
    )
    return PhotoFaces(table, faces, people, left_out, several)


def _unit(embeddings: np.ndarray) -> np.ndarray:
    vectors = embeddings.astype(np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _unusable(sources: Sources, seen: list[Seen], faces: FoundFaces) -> list[LeftOut]:
    """What cannot be read, has no face, or faces that are too small."""
    small, frames, bad = collections.Counter(), collections.Counter(), {}
    for part in seen:
        for item, count in part.small:
            small[item] += count
        for item, *_ in part.frames:
            frames[item] += 1
        for item, reason in part.bad:
            bad.setdefault(item, reason)
    has = set(faces.item.tolist())
    found = []
    for number, item in enumerate(sources.items):
        if number in bad:
            found.append(LeftOut(item.name, "unreadable", bad[number]))
        if small[number]:
            found.append(
                LeftOut(item.name, "too small", f"{count_faces(small[number])} too small", small[number])
            )
        elif number not in has and number not in bad:
            where = f"no face in {frames[number]} frames" if item.moves else "no face"
            found.append(LeftOut(item.name, "no face", where))
    return found


def _media(
    sources: Sources, seen: list[Seen], faces: FoundFaces, rate: float
) -> tuple[np.ndarray, dict[int, int]]:
    """([M] int64 media: photos by their number, then tracks; for each track, who of its video it shows)."""
    media, following = _media_of_items(sources)[faces.item], len(sources.items)
    people, same = len(sources.items), {}
    frames = collections.defaultdict(list)
    for part in seen:
        for item, time, begins in part.frames:
            frames[item].append((time, begins))
    for number, item in enumerate(sources.items):
        rows = np.flatnonzero(faces.item == number)
        if not item.moves or not len(rows):
            continue
        times, scenes = (np.array(values) for values in zip(*sorted(frames[number]), strict=True))
        own = faces.take(rows)
        tracks = track_faces(own, times, scenes.astype(bool), rate)
        media[rows] = following + tracks
        who = same_people(own, tracks)
        same |= {following + track: people + int(person) for track, person in enumerate(who)}
        following += int(tracks.max()) + 1
        people += int(who.max()) + 1
    return media, same


def _media_of_items(sources: Sources) -> np.ndarray:
    """[I] int64 media: files of one folder that are named as frames of one video share one."""
    pattern, numbers = re.compile(MEDIA_PATTERN), {}
    for number, item in enumerate(sources.items):
        match = None if item.moves else pattern.fullmatch(item.path.stem)
        key = (item.path.parent, match[1], item.person) if match else number
        numbers.setdefault(key, []).append(number)
    media = np.zeros(len(sources.items), np.int64)
    for items in numbers.values():
        media[items] = items[0]
    return media
