"""IJB's text lists: the template and media of each face, its landmarks, and the subject of each template."""

import csv
import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import UNKNOWN_SUBJECT
from fpsset.errors import InputError

FACES = "*_face_tid_mid.txt"
LANDMARKS = "*_name_5pts_score.txt"
SEARCH = "*_1N_*.csv"
TEXT = "utf-8-sig"  # encoding of lists; spreadsheets put a mark in front

_FACE_LINE = "'name template media'"
_LANDMARK_LINE = "'name x1 y1 ... x5 y5 [score]', or 68 points in place of 5"
# Of iBUG's 68 points, those whose means are eyes (corners), nose and corners of the mouth.
_FIVE_OF_68 = np.array([[36, 39], [42, 45], [30, 30], [48, 48], [54, 54]])
_SEARCH_LINE = "'template,subject,...'"


class FaceList(NamedTuple):
    """M faces, in the order of the features."""

    names: list[str]  # M image names
    template: np.ndarray  # [M] int64
    media: np.ndarray  # [M] int64


class LandmarkList(NamedTuple):
    """M detected faces."""

    names: list[str]  # M image names
    landmarks: np.ndarray  # [M, 5, 2] float64 pixels (x, y): eyes, nose, corners of the mouth
    score: np.ndarray | None  # [M] float32 detector confidence; None unless every line has one


def read_face_list(file: pathlib.Path) -> FaceList:
    """Reads lines `name template media`.

    Raises:
      InputError: the file is missing or malformed; the message names the line.
    """
    rows = _read_fields(file, (3,))
    template, media = _parse_columns(rows, slice(1, 3), np.int64, file, _FACE_LINE).T
    return FaceList([row[0] for row in rows], template, media)


def read_landmarks(file: pathlib.Path) -> LandmarkList:
    """Reads lines `name x1 y1 ... x5 y5 [score]`, or with iBUG's 68 points in place of five.

    Of 68, an eye is the mean of its corners, as the evaluation code of InsightFace and FaceCoresetNet has it.

    Raises:
      InputError: the file is missing or malformed, or its lines have different numbers of points; the message
        names the line.
    """
    rows = _read_fields(file, (11, 12, 137, 138))
    count = 5 if len(rows[0]) <= 12 else 68
    width = 1 + 2 * count
    for number, row in enumerate(rows, 1):
        if len(row) not in (width, width + 1):
            raise InputError(f"{file}: line {number} has not {count} points, as line 1; give all alike")
    points = _parse_columns(rows, slice(1, width), np.float64, file, _LANDMARK_LINE)
    landmarks = points.reshape(-1, count, 2)
    if count == 68:
        landmarks = landmarks[:, _FIVE_OF_68].mean(axis=2)
    score = None
    if all(len(row) > width for row in rows):
        score = _parse_columns(rows, slice(width, width + 1), np.float32, file, _LANDMARK_LINE)[:, 0]
    return LandmarkList([row[0] for row in rows], landmarks, score)


def require_same_faces(
    faces_file: pathlib.Path, faces: list[str], landmarks_file: pathlib.Path, landmarks: list[str]
) -> None:
    """Raises InputError unless two lists name the same images in the same order."""
    if faces != landmarks:
        raise InputError(
            f"{faces_file}: does not name the images of {landmarks_file} in the same order; use the lists of "
            "one release"
        )


def read_search_list(file: pathlib.Path) -> np.ndarray:
    """Reads a 1:N list: lines `template,subject,...`, usually below a header.

    Returns:
      [rows, 2] int64, the distinct (template, subject) pairs, sorted.

    Raises:
      InputError: the file is malformed or empty; the message names the line.
    """
    rows, number = [], 0
    try:
        with file.open(newline="", encoding=TEXT) as lines:
            for number, row in enumerate(csv.reader(lines)):
                if number or _is_number(row[0]):  # a list without its header starts with a template
                    rows.append((np.int64(int(row[0])), np.int64(int(row[1]))))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, IndexError, OverflowError, csv.Error) as error:
        raise InputError(f"{file}: line {number + 1} is not {_SEARCH_LINE}") from error
    if not rows:
        raise InputError(f"{file}: lists no template; lines are {_SEARCH_LINE}")
    return np.unique(np.array(rows, np.int64), axis=0)


def subjects_of(template: np.ndarray, meta: pathlib.Path) -> np.ndarray:
    """Looks up the subjects of templates in every 1:N list of a folder.

    Args:
      template: [M] template ids.
      meta: folder that may contain 1:N lists.

    Returns:
      [M] int64 subjects; `UNKNOWN_SUBJECT` where no list names the template.
    """
    subjects = {
        listed: subject
        for file in sorted(meta.glob(SEARCH))
        for listed, subject in read_search_list(file).tolist()
    }
    return np.array([subjects.get(one, UNKNOWN_SUBJECT) for one in template.tolist()], np.int64)


def find_one(pattern: str, *folders: pathlib.Path) -> pathlib.Path | None:
    """Finds the file that matches a glob pattern, in the first folder that contains one.

    Raises:
      InputError: several files of that folder match.
    """
    for folder in folders:
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            raise InputError(f"{folder}: holds {len(found)} files {pattern}; keep only one of them")
        if found:
            return found[0]
    return None


def _is_number(text: str) -> bool:
    return text.strip().lstrip("-").isdecimal()


def _read_fields(file: pathlib.Path, widths: tuple[int, ...]) -> list[list[str]]:
    """Splits the lines of a file at blanks; every line must have one of `widths` fields."""
    try:
        rows = [line.split() for line in file.read_text(TEXT).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from error
    for number, row in enumerate(rows, 1):
        if len(row) not in widths:
            wanted = " or ".join(map(str, widths))
            raise InputError(f"{file}: line {number} has {len(row)} fields, not {wanted}")
    if not rows:
        raise InputError(f"{file}: is empty")
    return rows


def _parse_columns(
    rows: list[list[str]], columns: slice, dtype: type, file: pathlib.Path, line: str
) -> np.ndarray:
    """Parses the numbers of the given columns: [M, columns]; InputError names the first bad line."""
    try:
        return np.array([row[columns] for row in rows], dtype)
    except (ValueError, OverflowError):
        for number, row in enumerate(rows, 1):
            try:
                np.array(row[columns], dtype)
            except (ValueError, OverflowError) as error:
                raise InputError(f"{file}: line {number}: {error}; lines are {line}") from error
        raise
