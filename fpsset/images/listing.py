"""Which images there are, whom they show and which belong together."""

import dataclasses
import os
import pathlib
import re

import numpy as np

from fpsset.data.feature_table import UNKNOWN_SUBJECT
from fpsset.data.ijb import FACES, LANDMARKS, find_one, ids_of, read_rows, template_subjects
from fpsset.errors import InputError

IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".webp"))
MEDIA_PATTERN = r"(.+?)[_-]?frame[_-]?\d+"  # file names with the same group 1 are one video


@dataclasses.dataclass(frozen=True)
class ImageList:
    """M images.

    Attributes:
      root: the folder that paths start from.
      paths: M, with '/' between folders.
      subject: [M] int64, `UNKNOWN_SUBJECT` where nothing tells.
      media: [M] int64, one number for the frames of a video.
      template: [M] int64 where the list is of a protocol that has templates.
      landmarks: [M, 5, 2] float64 pixels: eyes, nose, corners of the mouth; None for aligned crops.
      score: [M] float32, the face detector's, where the list of landmarks has it.
      ignored: files below the root that are no images of a person.
    """

    root: pathlib.Path
    paths: list[str]
    subject: np.ndarray
    media: np.ndarray
    template: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    score: np.ndarray | None = None
    ignored: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> "ImageList":
        """The list of the given rows."""
        columns = ("subject", "media", "template", "landmarks", "score")
        kept = {c: getattr(self, c)[rows] for c in columns if getattr(self, c) is not None}
        return dataclasses.replace(self, paths=[self.paths[row] for row in rows], **kept)


def list_images(root: pathlib.Path, landmarks: str = "", media_pattern: str = MEDIA_PATTERN) -> ImageList:
    """Images in a folder per person, or those that a list of landmarks names.

    Args:
      root: the folder.
      landmarks: a file of lines `name x1 y1 ... x5 y5 [score]`; when empty, an IJB
        `*_name_5pts_score.txt` in `root`, its `meta`, or the `meta` beside a `root` without folders is
        used if there is one.
      media_pattern: regular expression; file names whose first group is equal, in one folder, are
        frames of one video. A folder inside a person's is one video too.

    Raises:
      InputError: there is no image, or a list is malformed.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give one that holds a folder per person")
    pattern = _compiled(media_pattern)
    file = pathlib.Path(landmarks) if landmarks else find_one(LANDMARKS, *_places(root))
    if file is not None:
        return _listed(root, file, pattern)
    paths, ignored = [], []
    for path in _files(root):
        (paths if "/" in path and _is_image(path) else ignored).append(path)
    if not paths:
        raise InputError(f"{root}: holds no image in a folder per person (*.png, *.jpg, *.webp, *.bmp)")
    people, media = _people(paths), _media(paths, pattern)
    return ImageList(root, paths, people, media, ignored=tuple(ignored))


def list_person(
    folder: pathlib.Path, landmarks: str = "", media_pattern: str = MEDIA_PATTERN
) -> ImageList | None:
    """The images of a folder that is one person's; None where it holds folders alone.

    Args:
      folder: with images in it; folders inside it are a video each.
      landmarks: as of `list_images`; names start from `folder`.
      media_pattern: as of `list_images`.

    Raises:
      InputError: a list of landmarks is malformed.
    """
    if not any(_is_image(path.name) for path in folder.iterdir() if path.is_file()):
        return None
    pattern = _compiled(media_pattern)
    listed = _listed(folder, pathlib.Path(landmarks), pattern) if landmarks else None
    paths = listed.paths if listed else [path for path in _files(folder) if _is_image(path)]
    media = _media([f"{folder.name}/{path}" for path in paths], pattern)
    marks, score = (listed.landmarks, listed.score) if listed else (None, None)
    return ImageList(folder, paths, np.zeros(len(paths), np.int64), media, landmarks=marks, score=score)


def _is_image(path: str) -> bool:
    return pathlib.PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def _places(root: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """Where the lists of a folder of images may lie; those beside it are not of folders of people."""
    inside = root, root / "meta"
    with os.scandir(root) as entries:
        if any(entry.is_dir() for entry in entries if entry.name != "meta"):
            return inside
    return (*inside, root.absolute().parent / "meta")


def _files(root: pathlib.Path) -> list[str]:
    """Paths of all files below `root` that are not hidden, in order; links to folders are followed."""
    found = []
    for folder, folders, files in os.walk(root, followlinks=True):
        here = pathlib.Path(folder)
        inside = (here.resolve(), *here.resolve().parents)  # a link to one of these would never end
        folders[:] = [f for f in folders if f[0] != "." and (here / f).resolve() not in inside]
        found += [(here / f).relative_to(root).as_posix() for f in files if f[0] != "."]
    for path in found:
        if not path.isprintable() or not _is_utf8(path):
            raise InputError(f"{root}: holds a file whose name is no plain text, {path!a}; rename it")
    return sorted(found)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _listed(root: pathlib.Path, file: pathlib.Path, pattern: re.Pattern) -> ImageList:
    rows = read_rows(file, (11, 12))
    paths = [pathlib.PurePosixPath(row[0]).as_posix() for row in rows]
    for number, path in enumerate(paths, 1):
        if path.startswith("/") or ".." in path.split("/"):
            raise InputError(f"{file}: line {number} names {path}; names start from {root}")
    try:
        landmarks = np.array([row[1:11] for row in rows], np.float64).reshape(-1, 5, 2)
        scored = all(len(row) == 12 for row in rows)
        score = np.array([row[11] for row in rows], np.float32) if scored else None
    except ValueError as error:
        raise InputError(f"{file}: {error}; lines are 'name x1 y1 ... x5 y5 score'") from error
    if all("/" in path for path in paths):
        people, media = _people(paths), _media(paths, pattern)
        return ImageList(root, paths, people, media, landmarks=landmarks, score=score)
    meta = find_one(FACES, file.parent, *_places(root))
    if meta is None:
        media = np.arange(len(paths))
        people = np.full(len(paths), UNKNOWN_SUBJECT)
        return ImageList(root, paths, people, media, landmarks=landmarks, score=score)
    rows = read_rows(meta, (3,))
    if [row[0] for row in rows] != paths:
        raise InputError(
            f"{meta}: does not name the images of {file} in the same order; take both of one set"
        )
    template, media = ids_of(rows, meta, "name template media")
    subjects = template_subjects(meta.parent)
    subject = np.array([subjects.get(t, UNKNOWN_SUBJECT) for t in template.tolist()], np.int64)
    return ImageList(root, paths, subject, media, template, landmarks, score)


def _people(paths: list[str]) -> np.ndarray:
    """Numbers of the first folders, by name."""
    return np.unique([path.partition("/")[0] for path in paths], return_inverse=True)[1].astype(np.int64)


def _media(paths: list[str], pattern: re.Pattern) -> np.ndarray:
    names = []
    for path in paths:
        folder, _, file = path.rpartition("/")
        stem = file.rpartition(".")[0]
        match = pattern.fullmatch(stem)
        if "/" in folder:  # below a person's folder
            names.append(f"{folder}/")
        else:
            names.append(f"{folder}/{match[1]}" if match else path)
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _compiled(pattern: str) -> re.Pattern:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"config.media_pattern is {pattern!r}; it is no regular expression ({error})"
        ) from error
    if compiled.groups < 1:
        raise InputError(f"config.media_pattern is {pattern!r}; it must have a group that names the video")
    return compiled
