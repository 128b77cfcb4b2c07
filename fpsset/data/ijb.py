"""IJB-B and IJB-C in their official files: meta lists, and backbone features in the same row order."""

import csv
import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import UNKNOWN_SUBJECT, FeatureTable, make_table
from fpsset.data.files import read_features, read_npz
from fpsset.data.numpy_pickle import read_numpy_pickle
from fpsset.errors import InputError

_OFFICIAL_FACES = {"ijbb": 227_630, "ijbc": 469_375}
FACES = "*_face_tid_mid.txt"
LANDMARKS = "*_name_5pts_score.txt"
_PAIRS = "*_template_pair_label.txt"
_SEARCH = "*_1N_*.csv"
_COLUMNS = ("embeddings", "norms", "paths", "score", "flipped", "backbone")  # of features, if they have them
_FEATURES = ("*features*.pickle", "*features*.pkl", "*features*.npz", "*features*.parquet", "*features*.npy")


class SearchLists(NamedTuple):
    """A 1:N protocol as its files list it."""

    galleries: dict[str, np.ndarray]  # name -> [G, 2] int64 (template, subject)
    probes: np.ndarray  # [P, 2] int64


class Ijb(NamedTuple):
    """What a folder in the official layout holds."""

    table: FeatureTable  # subjects from the 1:N lists, UNKNOWN_SUBJECT where they name none
    pairs_file: pathlib.Path | None  # as `read_pairs` takes it; None for all pairs
    search: SearchLists | None
    note: str  # what the user should know; empty if nothing


def read_ijb(folder: pathlib.Path, features: str = "") -> Ijb:
    """Reads a protocol and its features.

    Args:
      folder: holds `meta/` with `*_face_tid_mid.txt`, `*_template_pair_label.txt` and `*_1N_*.csv`, or
        is that `meta`.
      features: a pickled dict of arrays (`img_feats` or `embeddings`, `norms`), an `.npz` with these or
        a feature file, or an `.npy` [M, D] of embeddings with their norms; rows as in
        `*_face_tid_mid.txt`. When empty, a file with 'features' in its name in `folder` or beside it.

    Raises:
      InputError: a file is missing or malformed, or the features have other rows.
    """
    faces, pairs, file = _find_files(folder, features)
    rows = read_rows(faces, (3,))
    template, media = ids_of(rows, faces, "name template media")
    columns = _read_features(file)
    count = len(columns["embeddings"])
    official = _OFFICIAL_FACES.get(faces.name.partition("_")[0].lower())
    if count != len(rows):
        raise InputError(
            f"{file}: has {count} rows but {faces} {len(rows)}; were faces left out, or is it of other crops?"
        )
    _check_order(columns.get("paths"), [row[0] for row in rows], file, faces)
    subjects = template_subjects(faces.parent)
    columns |= {
        "subject": np.array([subjects.get(t, UNKNOWN_SUBJECT) for t in template.tolist()], np.int64),
        "media": media,
        "template": template,
    }
    score = _detector_scores(faces, rows)
    columns |= {} if score is None else {"score": score}
    note = ""
    if official and official != len(rows):
        note = (
            f"{faces.name}: {len(rows)} faces, the official set has {official}: a part of it, or other crops?"
        )
    return Ijb(make_table(columns, str(file)), pairs, _search_lists(faces.parent), note)


def ijb_files(folder: pathlib.Path, features: str = "") -> list[pathlib.Path]:
    """The files that `read_ijb` reads; raises InputError where one is missing."""
    faces, pairs, file = _find_files(folder, features)
    lists = [path for pattern in (_SEARCH, LANDMARKS) for path in sorted(faces.parent.glob(pattern))]
    return [faces, pairs, *lists, file]


def template_subjects(meta: pathlib.Path) -> dict[int, int]:
    """Template -> subject, from the galleries and probes in a folder of lists."""
    return {
        template: subject
        for file in sorted(meta.glob(_SEARCH))
        for template, subject in _read_csv(file).tolist()
    }


def find_one(pattern: str, *folders: pathlib.Path) -> pathlib.Path | None:
    """The file that matches, in the first of the folders that holds one.

    Raises:
      InputError: two match.
    """
    for place in folders:
        found = sorted(place.glob(pattern))
        if len(found) > 1:
            raise InputError(f"{place}: holds {len(found)} files {pattern}; keep the one that is meant")
        if found:
            return found[0]
    return None


def read_rows(file: pathlib.Path, widths: tuple[int, ...]) -> list[list[str]]:
    """Lines of a list, split at blanks.

    Raises:
      InputError: it cannot be read, is empty, or a line has another number of fields than `widths`.
    """
    try:
        rows = [line.split() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from error
    for number, row in enumerate(rows, 1):
        if len(row) not in widths:
            wanted = " or ".join(map(str, widths))
            raise InputError(f"{file}: line {number} has {len(row)} fields, not {wanted}")
    if not rows:
        raise InputError(f"{file}: is empty")
    return rows


def ids_of(rows: list[list[str]], file: pathlib.Path, layout: str) -> np.ndarray:
    """The integers after the names: M rows -> [columns, M] int64.

    Raises:
      InputError: a field is none.
    """
    try:
        return np.array([row[1:] for row in rows], np.int64).T
    except (ValueError, OverflowError):
        for number, row in enumerate(rows, 1):
            try:
                np.array(row[1:], np.int64)
            except (ValueError, OverflowError) as error:
                raise InputError(f"{file}: line {number}: {error}; lines are '{layout}'") from error
        raise


def _find_files(folder: pathlib.Path, features: str) -> tuple[pathlib.Path, pathlib.Path, pathlib.Path]:
    """The lists of faces and of pairs, and the features; InputError names all that are missing."""
    lists = {pattern: find_one(pattern, folder, folder / "meta") for pattern in (FACES, _PAIRS)}
    file = pathlib.Path(features) if features else _find_features(folder)
    missing = [pattern for pattern, found in lists.items() if found is None]
    missing += [] if file else [f"features ({', '.join(_FEATURES)})"]
    if missing:
        like = "ijbb" if "ijbb" in folder.name.lower() else "ijbc"
        raise InputError(
            f"{folder}: holds no {', no '.join(missing)}. The lists ({FACES}, {_PAIRS}; {_SEARCH} for 1:N) "
            "lie in the folder or its meta/; they come with IJB from NIST, and as meta/ of InsightFace's IJB "
            "release, neither of which is handed out freely any more. Features lie in the folder or beside "
            "it, or are given by --config.data.eval_features=FILE (preparing, --config.features=FILE); "
            "InsightFace's code makes them, or configs/extract.py --config.images="
            f"{folder / 'loose_crop'} --config.out={folder / 'features.npz'}. To go without: "
            f"fpsset simulate-ijb {folder} --like {like}"
        )
    return lists[FACES], lists[_PAIRS], file


def _detector_scores(faces: pathlib.Path, rows: list[list[str]]) -> np.ndarray | None:
    """[M] float32 of the list of landmarks beside the list of faces; None where it has none."""
    file = find_one(LANDMARKS, faces.parent)
    if file is None:
        return None
    marks = read_rows(file, (11, 12))
    if [row[0] for row in marks] != [row[0] for row in rows]:
        raise InputError(
            f"{faces}: does not name the faces of {file} in the same order; take both of one set"
        )
    if any(len(row) < 12 for row in marks):
        return None
    try:
        return np.array([row[11] for row in marks], np.float32)
    except ValueError as error:
        raise InputError(f"{file}: {error}; lines are 'name x1 y1 ... x5 y5 score'") from error


def _search_lists(meta: pathlib.Path) -> SearchLists | None:
    galleries = {
        file.stem.rpartition("_")[2]: _read_csv(file) for file in sorted(meta.glob("*_1N_gallery_*.csv"))
    }
    probes = find_one("*_1N_probe_mixed.csv", meta)
    if not galleries or probes is None:
        return None
    return SearchLists(galleries, np.unique(_read_csv(probes), axis=0))


def _read_csv(file: pathlib.Path) -> np.ndarray:
    """[rows, 2] int64 of a list with a header: template, subject, and more that is not read."""
    rows, number = [], 0
    try:
        with file.open(newline="") as lines:
            for number, row in enumerate(csv.reader(lines)):
                if number:
                    rows.append((np.int64(int(row[0])), np.int64(int(row[1]))))
    except (ValueError, IndexError, OverflowError, csv.Error) as error:
        raise InputError(f"{file}: line {number + 1} is no 'template,subject,...'") from error
    if not rows:
        raise InputError(f"{file}: holds no template")
    return np.unique(np.array(rows, np.int64), axis=0)


def _find_features(folder: pathlib.Path) -> pathlib.Path | None:
    for pattern in _FEATURES:
        if file := find_one(pattern, folder, folder.absolute().parent):
            return file
    return None


def _read_features(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Columns 'embeddings' and 'norms', and the others of _COLUMNS where there are."""
    if file.suffix in (".pickle", ".pkl"):
        columns = read_numpy_pickle(file)
    elif file.suffix == ".parquet":
        table = read_features(file)
        columns = {name: getattr(table, name) for name in _COLUMNS if getattr(table, name) is not None}
    elif file.suffix == ".npy":
        columns = {"img_feats": _read_npy(file)}
    else:
        columns = read_npz(file, (*_COLUMNS, "img_feats"))
    if "img_feats" in columns:
        columns["embeddings"] = columns.pop("img_feats")
    if "embeddings" not in columns or np.ndim(columns["embeddings"]) != 2:
        raise InputError(f"{file}: holds no array 'embeddings' or 'img_feats' [M, D]")
    if "norms" not in columns:
        columns["norms"] = np.linalg.norm(columns["embeddings"].astype(np.float32), axis=1)
    return {name: columns[name] for name in _COLUMNS if name in columns}


def _read_npy(file: pathlib.Path) -> np.ndarray:
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file}: cannot be read as an .npy of numbers ({error})") from error


def _check_order(paths, names: list[str], file: pathlib.Path, faces: pathlib.Path) -> None:
    if paths is not None:
        wrong = np.array([path.rpartition("/")[2] for path in paths.tolist()]) != np.array(names)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(f"{file}: row {row} is of {paths[row]}, but {faces} has {names[row]} there")
