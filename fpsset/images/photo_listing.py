"""Lists photos and videos in files and folders, with the person that each shows if that is known."""

import dataclasses
import pathlib
from collections.abc import Sequence

from fpsset.errors import InputError
from fpsset.images.listing import files_below, said_ignored
from fpsset.images.photos import PHOTO_SUFFIXES, is_animated, is_photo

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv"),
        *(".ts", ".webm", ".wmv"),
    )
)


@dataclasses.dataclass(frozen=True)
class Item:
    """A photo or a video.

    Attributes:
      path: of the file.
      name: as the user knows it, with '/' between folders.
      moves: whether it has several frames: a video, or an animated photo.
      person: name of the person it shows; None if that is not known.
    """

    path: pathlib.Path
    name: str
    moves: bool
    person: str | None

    @property
    def is_video(self) -> bool:
        """Whether it is a video file."""
        return is_video(self.path)


@dataclasses.dataclass(frozen=True)
class Sources:
    """All photos and videos of some sources.

    Attributes:
      items: in the order of the sources, sorted within each; every file once
        for each person.
      people: names of the people known, in the order in which they come.
      ignored: files that are neither photo nor video.
    """

    items: tuple[Item, ...]
    people: tuple[str, ...]
    ignored: tuple[str, ...]

    def said_ignored(self) -> str:
        """One line that counts the ignored files by suffix; empty if there are none."""
        return said_ignored("", self.ignored, "files that are no photos or videos")


def is_video(path: pathlib.PurePath) -> bool:
    """Whether a file's suffix is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def list_sources(sources: Sequence[pathlib.Path], one_person: str = "") -> Sources:
    """Lists photos and videos.

    Args:
      sources: photos, videos, and folders. In a folder, what lies in a folder inside it shows the person of
        that name; what lies in it directly shows nobody known.
      one_person: name of the one person whom all sources show; empty: as above.

    Raises:
      InputError: a source does not exist or is of no known kind, a folder cannot be listed, or there is
        nothing to read.
    """
    items: dict[tuple, Item] = {}
    people: dict[str, None] = {one_person: None} if one_person else {}
    ignored = []

    def add(path: pathlib.Path, name: str, person: str | None) -> None:
        person = one_person or person
        if person is not None:
            people.setdefault(person)
        moves = is_video(path) or is_animated(path)
        items.setdefault((path.resolve(), person), Item(path, name, moves, person))

    for source in sources:
        if source.is_dir():
            for below in files_below(source):
                path, folder = source / below, below.partition("/")[0]
                if is_photo(path) or is_video(path):
                    add(path, path.as_posix(), folder if "/" in below else None)
                else:
                    ignored.append(path.as_posix())
        elif not source.exists():
            raise InputError(f"{source}: no such photo, video or folder")
        elif is_photo(source) or is_video(source):
            add(source, source.as_posix(), None)
        else:
            raise InputError(
                f"{source}: is neither a photo nor a video by its suffix; photos are "
                f"{_listed(PHOTO_SUFFIXES)}, videos {_listed(VIDEO_SUFFIXES)}"
            )
    if not items:
        raise InputError(f"{', '.join(map(str, sources))}: no photos or videos there")
    return Sources(tuple(items.values()), tuple(people), tuple(ignored))


def _listed(suffixes: frozenset[str]) -> str:
    return " ".join(sorted(suffixes))
