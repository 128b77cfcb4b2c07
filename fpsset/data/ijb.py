"""Reads IJB-B and IJB-C in their official layout: meta lists, and backbone features in the same row order."""

import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.data.face_lists import (
    FACES,
    LANDMARKS,
    SEARCH,
    find_one,
    read_face_list,
    read_landmarks,
    read_search_list,
    require_same_faces,
    subjects_of,
)
from fpsset.data.feature_table import FeatureTable, make_table
from fpsset.data.files import read_features
from fpsset.data.npz import read_npy, read_npz
from fpsset.data.numpy_pickle import read_numpy_pickle
from fpsset.data.parquet import is_parquet
from fpsset.errors import InputError

_OFFICIAL_FACES = {"ijbb": 227_630, "ijbc": 469_375}
_PAIRS = "*_template_pair_label.txt"
LISTS = (FACES, _PAIRS)  # which a protocol must have
_COLUMNS = ("embeddings", "norms", "paths", "score", "flipped", "backbone")  # read from the features
FEATURES = ("*features*.pickle", "*features*.pkl", "*features*.npz", "*features*.parquet", "*features*.npy")


class SearchLists(NamedTuple):
    """The galleries and probes of a 1:N protocol."""

    galleries: dict[str, np.ndarray]  # name -> [G, 2] int64 (template, subject)
    probes: np.ndarray  # [P, 2] int64


class Ijb(NamedTuple):
    """The faces of a protocol, its pairs and its 1:N lists."""

    table: FeatureTable  # subjects come from the 1:N lists; UNKNOWN_SUBJECT where none names the template
    pairs_file: pathlib.Path | None  # for `read_pairs`; None means all pairs
    search: SearchLists | None  # None without a gallery or without probes
    note: str  # a remark for the user; empty if there is none


def read_ijb(folder: pathlib.Path, features: str = "") -> Ijb:
    """Reads a protocol and its features.

    Args:
      folder: contains `meta/` with `*_face_tid_mid.txt`, `*_template_pair_label.txt` and `*_1N_*.csv`, or
        is that `meta/`.
      features: a pickled dict of arrays (`img_feats` or `embeddings`, `norms`), an `.npz` of the same, a
        feature file, or an `.npy` [M, D] of embeddings that are not normalised; rows in the order of
        `*_face_tid_mid.txt`. If empty, the file with 'features' in its name in `folder` or its parent.

    Raises:
      InputError: a file is missing or malformed, or the rows of the features do not match the list.
    """
    faces, pairs, file = _find_files(folder, features)
    names, template, media = read_face_list(faces)
    columns = _read_features(file)
    count = len(columns["embeddings"])
    official = _OFFICIAL_FACES.get(faces.name.partition("_")[0].lower())
    if count != len(names):
        raise InputError(
            f"{file}: has {count} rows but {faces} has {len(names)}; extract features of every listed face"
        )
    _check_order(columns.get("paths"), names, file, faces)
    columns |= {"subject": subjects_of(template, faces.parent), "media": media, "template": template}
    if landmarks_file := find_one(LANDMARKS, faces.parent):
        listed = read_landmarks(landmarks_file)
        require_same_faces(faces, names, landmarks_file, listed.names)
        columns |= {} if listed.score is None else {"score": listed.score}
    note = ""
    if official and official != len(names):
        note = (
            f"{faces.name}: {len(names)} faces, but the official set has {official}: a subset or other crops?"
        )
    return Ijb(make_table(columns, str(file)), pairs, _search_lists(faces.parent), note)


def ijb_files(folder: pathlib.Path, features: str = "") -> list[pathlib.Path]:
    """The files that `read_ijb` would read; raises InputError if a required one is missing."""
    faces, pairs, file = _find_files(folder, features)
    lists = [path for pattern in (SEARCH, LANDMARKS) for path in sorted(faces.parent.glob(pattern))]
    return [faces, pairs, *lists, file]


class Found(NamedTuple):
    """The files of a protocol, None where one is not there."""

    faces: pathlib.Path | None
    pairs: pathlib.Path | None
    features: pathlib.Path | None


def find_ijb(folder: pathlib.Path, features: str = "") -> Found:
    """Looks for the files of a protocol; see `read_ijb` for the arguments.

    Raises:
      InputError: several files match where one is wanted.
    """
    faces, pairs = (find_one(pattern, folder, folder / "meta") for pattern in LISTS)
    return Found(faces, pairs, pathlib.Path(features) if features else _find_features(folder))


def _find_files(folder: pathlib.Path, features: str) -> Found:
    """The files, all of them; InputError names everything that is missing."""
    found = find_ijb(folder, features)
    missing = [pattern for pattern, file in zip(LISTS, found, strict=False) if file is None]
    missing += [] if found.features else [f"features ({', '.join(FEATURES)})"]
    if missing:
        like = "ijbb" if "ijbb" in folder.name.lower() else "ijbc"
        raise InputError(
            f"{folder}: holds no {', no '.join(missing)}. Put the lists ({FACES}, {_PAIRS}; {SEARCH} for "
            "1:N) in the folder or its meta/; they come with IJB from NIST, and with InsightFace's IJB "
            "release, neither of which is freely available any more. Put the features in or beside the "
            "folder, or pass --config.data.eval_features=FILE (to prepare, --config.features=FILE): use "
            f"InsightFace's code, or fpsset extract --images={folder / 'loose_crop'} --weights=WEIGHTS "
            f"--out={folder / 'features.npz'}. Without IJB, simulate it: fpsset simulate-ijb {folder} "
            f"--like {like}"
        )
    return found


def _search_lists(meta: pathlib.Path) -> SearchLists | None:
    galleries = {
        file.stem.rpartition("_")[2]: read_search_list(file)
        for file in sorted(meta.glob("*_1N_gallery_*.csv"))
    }
    probes = find_one("*_1N_probe_mixed.csv", meta)
    if not galleries or probes is None:
        return None
    return SearchLists(galleries, read_search_list(probes))


def _find_features(folder: pathlib.Path) -> pathlib.Path | None:
    for pattern in FEATURES:
        if file := find_one(pattern, folder, folder.absolute().parent):
            return file
    return None


def _read_features(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads 'embeddings', 'norms' and whichever other `_COLUMNS` there are."""
    if file.suffix in (".pickle", ".pkl"):
        columns = read_numpy_pickle(file)
    elif is_parquet(file):
        table = read_features(file)
        columns = {name: getattr(table, name) for name in _COLUMNS if getattr(table, name) is not None}
    elif file.suffix == ".npy":
        columns = {"img_feats": read_npy(file)}
    else:
        columns = read_npz(file, (*_COLUMNS, "img_feats"))
    if "img_feats" in columns:
        columns["embeddings"] = columns.pop("img_feats")
    if "embeddings" not in columns or np.ndim(columns["embeddings"]) != 2:
        raise InputError(f"{file}: has no array 'embeddings' or 'img_feats' [M, D]; save one of them")
    if "norms" not in columns:
        columns["norms"] = np.linalg.norm(columns["embeddings"].astype(np.float32), axis=1)
    return {name: columns[name] for name in _COLUMNS if name in columns}


def _check_order(paths, names: list[str], file: pathlib.Path, faces: pathlib.Path) -> None:
    if paths is not None:
        wrong = np.array([path.rpartition("/")[2] for path in paths.tolist()]) != np.array(names)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"{file}: row {row} is {paths[row]}, but {faces} has {names[row]} there; use the same order"
            )
