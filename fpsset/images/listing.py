"""Lists images on disk, with their people, media, templates and landmarks."""

import dataclasses
import os
import pathlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from fpsset.data.face_lists import (
    FACES,
    LANDMARKS,
    find_one,
    read_face_list,
    read_landmarks,
    require_same_faces,
    subjects_of,
)
from fpsset.data.feature_table import UNKNOWN_SUBJECT
from fpsset.errors import InputError

IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".webp"))
MEDIA_PATTERN = r"(.+?)[_-]?frame[_-]?\d+"  # files that agree in group 1 are frames of one video
# Folders in which storage devices and systems keep thumbnails and deleted files.
_OF_SYSTEMS = frozenset(
    ("@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "__macosx", "lost+found")
)
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, bytes that are not UTF-8, breaks of lines


@dataclasses.dataclass(frozen=True)
class ImageList:
    """M images.

    Attributes:
      root: the folder that paths are relative to.
      paths: M paths, with '/' between folders.
      subject: [M] int64 person ids; `UNKNOWN_SUBJECT` where the person is unknown.
      media: [M] int64 media ids; the frames of a video share one.
      template: optional [M] int64 template ids, from a protocol.
      landmarks: optional [M, 5, 2] float64 pixels (x, y): eyes, nose, corners of the mouth; None for aligned
        crops.
      score: optional [M] float32 face-detector confidence.
      ignored: files below the root that are not images in a person's folder.
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

    def said_ignored(self) -> str:
        """One line that counts the ignored files by suffix; empty if there are none."""
        return said_ignored(f"{self.root}: ", self.ignored, "other files")

    def take(self, rows: np.ndarray) -> "ImageList":
        """Selects images by their indices."""
        columns = ("subject", "media", "template", "landmarks", "score")
        kept = {c: getattr(self, c)[rows] for c in columns if getattr(self, c) is not None}
        return dataclasses.replace(self, paths=[self.paths[row] for row in rows], **kept)


def said_ignored(where: str, files: Sequence[str], what: str) -> str:
    """'WHERE ignored 3 WHAT (2 .heic, 1 no suffix), e.g. a/b.heic'; empty if there are none."""
    if not files:
        return ""
    counts = Counter(pathlib.PurePosixPath(path).suffix.lower() or "no suffix" for path in files)
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common())
    return f"{where}ignored {len(files)} {what} ({kinds}), e.g. {files[0]}"


def list_images(
    root: pathlib.Path,
    landmarks: str = "",
    media_pattern: str = MEDIA_PATTERN,
    folder_is_video: bool = False,
) -> ImageList:
    """Lists images in one folder per person, or those that a landmark list names.

    Args:
      root: the folder.
      landmarks: a file of lines `name x1 y1 ... x5 y5 [score]`, or of 68 points. If empty, an IJB
        `*_name_5pts_score.txt` is used where there is one: in `root`, in `root`/meta, or in the meta folder
        next to a `root` that has no folders.
      media_pattern: regular expression for file names without suffix. Files in one folder that agree in its
        first group are frames of one video.
      folder_is_video: all files in a folder inside a person's folder are frames of one video.

    Raises:
      InputError: there is no image, a list is malformed, or the pattern is invalid.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give one that contains a folder per person")
    pattern = _compiled(media_pattern)
    file = pathlib.Path(landmarks) if landmarks else find_one(LANDMARKS, *_list_folders(root))
    if file is not None:
        return _read_listed(root, file, pattern, folder_is_video)
    paths, ignored = [], []
    for path in files_below(root):
        (paths if "/" in path and _is_image(path) else ignored).append(path)
    if not paths:
        raise InputError(f"{root}: has no image in a folder per person (*.png, *.jpg, *.webp, *.bmp)")
    people, media = _people(paths), _media(paths, pattern, folder_is_video)
    return ImageList(root, paths, people, media, ignored=tuple(ignored))


def has_landmarks(root: pathlib.Path) -> bool:
    """Whether `list_images` finds an IJB list of landmarks for a folder of people."""
    return not _holds_images(root) and find_one(LANDMARKS, *_list_folders(root)) is not None


def list_person(
    folder: pathlib.Path,
    landmarks: str = "",
    media_pattern: str = MEDIA_PATTERN,
    folder_is_video: bool = False,
) -> ImageList | None:
    """Lists the images of one person; returns None if the folder itself contains no image.

    Args:
      folder: contains images, and maybe folders with more.
      landmarks: see `list_images`; names are relative to `folder`. If empty, images are aligned crops.
      media_pattern, folder_is_video: see `list_images`.

    Raises:
      InputError: the landmark list is malformed, or the pattern is invalid.
    """
    if not _holds_images(folder):
        return None
    pattern = _compiled(media_pattern)
    listed = _read_listed(folder, pathlib.Path(landmarks), pattern, folder_is_video) if landmarks else None
    files = [] if listed else files_below(folder)
    paths = listed.paths if listed else [path for path in files if _is_image(path)]
    ignored = tuple(path for path in files if not _is_image(path))
    media = _media([f"{folder.name}/{path}" for path in paths], pattern, folder_is_video)
    points, score = (listed.landmarks, listed.score) if listed else (None, None)
    people = np.zeros(len(paths), np.int64)
    return ImageList(folder, paths, people, media, landmarks=points, score=score, ignored=ignored)


def _holds_images(folder: pathlib.Path) -> bool:
    return any(_is_image(path.name) for path in folder.iterdir() if path.is_file())


def _is_image(path: str) -> bool:
    return pathlib.PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES


def _list_folders(root: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """Where to look for lists. Those next to `root` describe loose crops, not folders of people."""
    inside = root, root / "meta"
    with os.scandir(root) as entries:
        if any(entry.is_dir() for entry in entries if entry.name != "meta"):
            return inside
    return (*inside, root.absolute().parent / "meta")


def files_below(root: pathlib.Path) -> list[str]:
    """Sorted paths of all files below `root`, without hidden ones and those that systems keep for themselves.

    Links to folders are followed, unless they lead to a folder that contains them.

    Raises:
      InputError: a folder cannot be listed, or an image's name breaks lines or is not UTF-8.
    """
    found: list[str] = []

    def walk(folder: pathlib.Path, above: frozenset[pathlib.Path]) -> None:
        above |= {folder.resolve()}
        try:
            entries = [(entry.name, entry.is_dir()) for entry in os.scandir(folder)]
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be listed ({error.strerror}); make it readable, or move it away"
            ) from error
        for name, is_folder in entries:
            if name[0] == "." or name.casefold() in _OF_SYSTEMS:
                continue
            if not is_folder:
                found.append((folder / name).relative_to(root).as_posix())
            elif (folder / name).resolve() not in above:
                walk(folder / name, above)

    walk(root, frozenset())
    for path in found:
        if _is_image(path) and any(unicodedata.category(letter) in _UNPRINTABLE for letter in path):
            raise InputError(f"{root}: the file name {path!a} is not plain text; rename the file")
    return sorted(found)


def _read_listed(
    root: pathlib.Path, file: pathlib.Path, pattern: re.Pattern, folder_is_video: bool
) -> ImageList:
    """The images in a landmark list, with people from their folders or from IJB's lists."""
    names, landmarks, score = read_landmarks(file)
    paths = [pathlib.PurePosixPath(name).as_posix() for name in names]
    for number, path in enumerate(paths, 1):
        if path.startswith("/") or ".." in path.split("/"):
            raise InputError(f"{file}: line {number} names {path}; names must be relative to {root}")
    if all("/" in path for path in paths):
        people, media = _people(paths), _media(paths, pattern, folder_is_video)
        return ImageList(root, paths, people, media, landmarks=landmarks, score=score)
    faces_file = find_one(FACES, file.parent, *_list_folders(root))
    if faces_file is None:
        media = np.arange(len(paths))
        people = np.full(len(paths), UNKNOWN_SUBJECT)
        return ImageList(root, paths, people, media, landmarks=landmarks, score=score)
    listed = read_face_list(faces_file)
    require_same_faces(faces_file, listed.names, file, paths)
    subject = subjects_of(listed.template, faces_file.parent)
    return ImageList(root, paths, subject, listed.media, listed.template, landmarks, score)


def _people(paths: list[str]) -> np.ndarray:
    """[M] int64 person ids: the ranks of the topmost folders among their sorted names."""
    return np.unique([path.partition("/")[0] for path in paths], return_inverse=True)[1].astype(np.int64)


def _media(paths: list[str], pattern: re.Pattern, folder_is_video: bool) -> np.ndarray:
    """[M] int64 media ids; see `list_images` for what makes a video."""
    names = []
    for path in paths:
        folder, _, file = path.rpartition("/")
        stem = file.rpartition(".")[0]
        match = pattern.fullmatch(stem)
        if folder_is_video and "/" in folder:  # a video's own folder, inside the person's
            names.append(f"{folder}/")
        else:
            names.append(f"{folder}/{match[1]}" if match else path)
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _compiled(pattern: str) -> re.Pattern:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"config.media_pattern is {pattern!r}; it must be a regular expression ({error})"
        ) from error
    if compiled.groups < 1:
        raise InputError(f"config.media_pattern is {pattern!r}; it must have a group that names the video")
    return compiled
