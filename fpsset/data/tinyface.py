"""TinyFace's 1:N protocol in its official layout: lists in MATLAB files, images in three folders.

Facts about the layout are from the evaluation tools that its authors and others publish (Cheng, Zhu and Gong,
"Low-Resolution Face Recognition", ACCV 2018).
"""

import pathlib

import numpy as np

from fpsset.data.feature_table import UNKNOWN_SUBJECT, FeatureTable
from fpsset.data.listed_searches import ListedSearches, Task, paths_of, sets_of
from fpsset.errors import InputError, first_line

GALLERY, PROBE, DISTRACTOR = "Gallery_Match", "Probe", "Gallery_Distractor"  # folders of images
# Folder -> its list, and the names of the list's columns.
LISTS = {
    GALLERY: ("gallery_match_img_ID_pairs.mat", "gallery_set", "gallery_ids"),
    PROBE: ("probe_img_ID_pairs.mat", "probe_set", "probe_ids"),
}
RANKS = (1, 5, 20)


def read_tinyface(folder: pathlib.Path, table: FeatureTable) -> ListedSearches:
    """Reads the lists and finds the faces that they name; every image is a template of one face.

    Args:
      folder: holds `gallery_match_img_ID_pairs.mat` and `probe_img_ID_pairs.mat`, or is above the folder
        Testing_Set that does.
      table: features whose paths end in 'Gallery_Match/NAME', 'Probe/NAME' or 'Gallery_Distractor/NAME'. All
        faces of the last folder are distractors, of which there is no list.

    Raises:
      InputError: a list is missing or malformed, or the features lack a listed image or hold it twice.
    """
    folder = next((inner for inner in (folder, folder / "Testing_Set") if _holds_lists(inner)), folder)
    where: dict[tuple[str, str], int] = {}
    distractors = []
    for row, path in enumerate(paths_of(table, f"{PROBE}/NAME.jpg")):
        parent, _, name = path.rpartition("/")
        kind = parent.rpartition("/")[2]
        if kind == DISTRACTOR:
            distractors.append(row)
        elif where.setdefault((kind, name), row) != row:
            raise InputError(f"{table.name}: holds {kind}/{name} twice; leave one of the rows out")
    rows, subjects = [], []
    for kind in LISTS:
        file, names, people = _read_list(folder, kind)
        lacking = [name for name in names if (kind, name) not in where]
        if lacking:
            raise InputError(
                f"{table.name}: lacks {len(lacking)} of the {len(names)} images that {file} lists, e.g. "
                f"{kind}/{lacking[0]}; extract features of every listed image"
            )
        rows += [where[kind, name] for name in names]
        subjects.append(people)
    matched, probes = map(len, subjects)
    numbers = np.arange(matched + probes + len(distractors))
    gallery = np.concatenate([numbers[:matched], numbers[matched + probes :]])
    return ListedSearches(
        "TinyFace",
        np.concatenate([*subjects, np.full(len(distractors), UNKNOWN_SUBJECT)]),
        sets_of(table, list(np.array([*rows, *distractors], np.int64)[:, None])),
        {"identification": Task({"gallery": gallery}, numbers[matched : matched + probes])},
        RANKS,
        mean_precision=True,
    )


def _holds_lists(folder: pathlib.Path) -> bool:
    return any((folder / name).is_file() for name, _, _ in LISTS.values())


def _read_list(folder: pathlib.Path, kind: str) -> tuple[pathlib.Path, list[str], np.ndarray]:
    """(The file, names of images, [N] int64 people)."""
    import scipy.io

    name, *columns = LISTS[kind]
    file = folder / name
    if not file.is_file():
        raise InputError(f"{file}: no such file; it comes with TinyFace, in its folder Testing_Set")
    try:
        held = scipy.io.loadmat(file, variable_names=columns)
    except Exception as error:  # SciPy raises many types for a damaged file
        raise InputError(f"{file}: cannot be read as a MATLAB file ({first_line(error)})") from error
    for column in columns:
        if column not in held:
            raise InputError(f"{file}: has no variable '{column}'; use the list of the official release")
    try:
        names = [str(np.asarray(one).item()) for one in held[columns[0]].ravel()]
        numbers = np.asarray(held[columns[1]]).ravel()
        people = numbers.astype(np.int64)
        sound = len(names) == len(people) > 0 and (people == numbers).all() and (people >= 0).all()
    except (ValueError, TypeError, OverflowError):
        sound = False
    if not sound:
        raise InputError(
            f"{file}: '{columns[0]}' and '{columns[1]}' must list as many image names as people's numbers, "
            "from 0"
        )
    return file, [name.rpartition("/")[2] for name in names], people
