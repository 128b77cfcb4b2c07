"""IJB-S's 1:N protocols from its official lists (Kalka et al., "IJB-S: IARPA Janus Surveillance Video
Benchmark", BTAS 2018). Facts about the layout are from evaluation code that others publish."""

import csv
import pathlib
import re

import numpy as np

from fpsset.data.face_lists import TEXT
from fpsset.data.feature_table import FeatureTable
from fpsset.data.listed_searches import ListedSearches, Task, paths_of, sets_of
from fpsset.errors import InputError

METADATA = "cs6_metadata.csv"
_SINGLE_BOOKING = "cs6_surveillance_to_single-booking_probe.csv"
_SURVEILLANCE = "cs6_surveillance_to_surveillance_probe.csv"
_UAV = "cs6_uav_to_single-booking_probe.csv"
_MULTI_VIEW = "multi_view_surveillance_to_booking"
# Task -> list of its probes, and the name of its galleries' lists.
TASKS = {
    "surveillance_to_single": (_SINGLE_BOOKING, "surveillance_to_single"),
    "surveillance_to_booking": (_SINGLE_BOOKING, "surveillance_to_booking"),
    _MULTI_VIEW: (_SURVEILLANCE, "surveillance_to_booking"),
    "surveillance_to_surveillance": (_SURVEILLANCE, "surveillance_to_surveillance"),
    "uav_surveillance_to_booking": (_UAV, "surveillance_to_booking"),
}
RANKS = (1, 5, 10)
_FACE = "SUBJECT/videos_NUMBER_FRAME.jpg or SUBJECT/img_NUMBER.jpg"
_STEM = re.compile(r"(videos|img)_([^_.]+)(?:[_.].*)?")
Key = tuple[int, str]  # a person, and the file in which they are: 'videos/4012'


def gallery_file(task: str, number: int) -> str:
    """The list of gallery 1 or 2, below the folder of the lists."""
    return f"galleries/cs6_{TASKS[task][1]}_g{number}.csv"


def read_ijbs(folder: pathlib.Path, table: FeatureTable) -> ListedSearches:
    """Reads the lists and finds the faces that they name.

    A template is a person in a video, an image in a gallery of single images, a person's images in a gallery
    of booking images, or all videos of a person (multi-view). Templates without a face are kept: whoever is
    not found in a video is not identified.

    Args:
      folder: holds `cs6_metadata.csv`, `*_probe.csv` and `galleries/`. Tasks of which no list is there are
        left out.
      table: features whose paths end in 'SUBJECT/videos_NUMBER_FRAME.jpg' or 'SUBJECT/img_NUMBER.jpg'.

    Raises:
      InputError: a list is missing or malformed, or no face is of a listed template.
    """
    metadata = _read(folder / METADATA, 2)
    appearances = dict.fromkeys(_keys(folder / METADATA, metadata, subject=0, file=1))
    in_videos = [key for key in appearances if key[1].startswith("videos/")]
    faces, media = _faces(table)
    templates: dict[tuple, int] = {}  # what is in it -> its number

    def number(keys: tuple[Key, ...]) -> int:
        return templates.setdefault(keys, len(templates))

    tasks = {}
    for task, (probe_list, _) in TASKS.items():
        files = [folder / probe_list, *(folder / gallery_file(task, one) for one in (1, 2))]
        if not any(file.is_file() for file in files[1:]) or not files[0].is_file():
            continue
        listed = {_without_suffix(row[0]) for row in _read(files[0], 1)}
        probes = [key for key in appearances if key[1] in listed]
        if task == _MULTI_VIEW:
            people = {person for person, _ in probes}
            probe_keys = [tuple(key for key in in_videos if key[0] == person) for person in sorted(people)]
        else:
            probe_keys = [(key,) for key in probes]
        galleries = {f"g{one}": _gallery(file) for one, file in enumerate(files[1:], 1)}
        tasks[task] = Task(
            {name: np.array([number(keys) for keys in held]) for name, held in galleries.items()},
            np.array([number(keys) for keys in probe_keys], np.int64),
        )
        if not len(tasks[task].probes):
            raise InputError(f"{files[0]}: lists no file that {METADATA} has a person in")
    if not tasks:
        raise InputError(
            f"{folder}: holds no list of probes with its galleries, e.g. {_SINGLE_BOOKING} and "
            f"{gallery_file('surveillance_to_single', 1)}; they come with IJB-S from NIST"
        )
    empty = np.empty(0, np.int64)
    rows = [np.concatenate([empty, *(faces.get(key, empty) for key in keys)]) for keys in templates]
    if not any(map(len, rows)):
        raise InputError(
            f"{table.name}: none of its faces is of a template that {folder} lists; name the crops {_FACE}"
        )
    subjects = np.array([keys[0][0] for keys in templates], np.int64)
    return ListedSearches("IJB-S", subjects, sets_of(table, rows, media), tasks, RANKS, end_to_end=True)


def _faces(table: FeatureTable) -> tuple[dict[Key, np.ndarray], np.ndarray]:
    """(The rows of each person in each file, [M] the file of each face as a number: its medium)."""
    rows: dict[Key, list[int]] = {}
    media = np.empty(len(table), np.int64)
    for row, path in enumerate(paths_of(table, _FACE)):
        parent, _, name = path.rpartition("/")
        person, match = parent.rpartition("/")[2], _STEM.fullmatch(name)
        if not (person.isascii() and person.isdecimal() and match):
            raise InputError(f"{table.name}: row {row} has the path {path}; it must end in {_FACE}")
        rows.setdefault((int(person), f"{match[1]}/{match[2]}"), []).append(row)
    for medium, held in enumerate(rows.values()):
        media[held] = medium
    return {key: np.array(held, np.int64) for key, held in rows.items()}, media


def _gallery(file: pathlib.Path) -> list[tuple[Key, ...]]:
    """What is in each template: those of single images and of videos have one file, others a person's all."""
    keys = list(dict.fromkeys(_keys(file, _read(file, 3), subject=1, file=2)))
    if "_to_booking_" not in file.name:
        return [(key,) for key in keys]
    people = dict.fromkeys(person for person, _ in keys)
    return [tuple(key for key in keys if key[0] == person) for person in people]


def _keys(path: pathlib.Path, rows: list[list[str]], subject: int, file: int) -> list[Key]:
    keys = []
    for number, row in enumerate(rows, 1):
        person = row[subject].strip()
        if not (person.isascii() and person.isdecimal()):
            raise InputError(f"{path}: row {number}: column {subject + 1} must be a subject's number")
        keys.append((int(person), _without_suffix(row[file])))
    return keys


def _read(path: pathlib.Path, columns: int) -> list[list[str]]:
    """The rows below the header, counted from 1, each of at least so many fields."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; it comes with IJB-S from NIST")
    try:
        with path.open(newline="", encoding=TEXT) as lines:
            rows = [row for row in list(csv.reader(lines))[1:] if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from error
    for number, row in enumerate(rows, 1):
        if len(row) < columns:
            raise InputError(f"{path}: row {number} has {len(row)} fields, not {columns} or more")
    if not rows:
        raise InputError(f"{path}: lists nothing below its header")
    return rows


def _without_suffix(file: str) -> str:
    """'videos/4012' of 'videos/4012.mp4'."""
    folder, _, name = file.strip().rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"
