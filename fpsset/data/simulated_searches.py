"""Simulates TinyFace and IJB-S: synthetic faces, lists in the official layouts, the official counts."""

import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.data import ijbs, tinyface
from fpsset.data.feature_table import FeatureTable
from fpsset.data.files import write_features
from fpsset.data.simulated_ijb import long_tailed_sizes, require_new_simulation
from fpsset.data.synthetic import draw_faces
from fpsset.runtime.files import replacing_folder

PROTOCOLS = ("tinyface", "ijbs")
_TINYFACE = {"people": 2569, "gallery": 4443, "probes": 3728, "distractors": 153_428}
_IJBS = {"people": 202, "videos": 398, "appearances": 3852}
_BOOKING = 7  # images of a person
_FRAMES = 20  # faces of a person in a video, on average; the real ones are some hundred times as many
_PEOPLE_AT_ONCE = 2048  # bounds memory: faces are drawn in float64
_UNSEEN = 0.05  # share of the appearances in which no face is found


class _Media(NamedTuple):
    """The faces of M media, in order."""

    subject: list[int]  # from 0
    paths: list[list[str]]  # of each medium's faces


def simulate_search(
    out: pathlib.Path, like: str = "tinyface", scale: float = 1.0, seed: int = 0, dim: int = 512
) -> dict[str, int]:
    """Writes lists and `out`/features.npz, which `read_tinyface` or `read_ijbs` read.

    Of IJB-S, a person has 20 faces in a video on average, and none in one video of twenty.

    Args:
      out: a folder that does not exist yet.
      like: 'tinyface' or 'ijbs'.
      scale: factor applied to all counts, in (0, 4].
      seed: random seed.
      dim: D, at least 2.

    Returns:
      What was written -> its count.

    Raises:
      InputError: `out` exists, or an argument is out of range.
    """
    require_new_simulation(out, like, PROTOCOLS, scale, seed, dim)
    rng = np.random.default_rng([seed, PROTOCOLS.index(like), dim])
    with replacing_folder(out) as beside:
        media, counts = (_tinyface if like == "tinyface" else _ijbs)(beside, rng, scale)
        _write_features(beside / "features.npz", media, rng, dim)
    return counts | {"faces": sum(map(len, media.paths))}


def _tinyface(folder: pathlib.Path, rng: np.random.Generator, scale: float) -> tuple[_Media, dict[str, int]]:
    import scipy.io

    counts = {name: max(1, round(scale * count)) for name, count in _TINYFACE.items()}
    people = counts["people"] = max(4, counts["people"])
    media = _Media([], [])
    (folder / "Testing_Set").mkdir()
    for kind, count in ((tinyface.GALLERY, "gallery"), (tinyface.PROBE, "probes")):
        counts[count] = max(counts[count], people)  # everybody is in both
        subject = np.concatenate([np.arange(people), rng.integers(0, people, counts[count] - people)])
        prefix = kind[0].lower()
        names = [f"{one + 1}_{prefix}{number}.jpg" for number, one in enumerate(subject.tolist())]
        media.subject.extend(subject.tolist())
        media.paths.extend([f"{kind}/{name}"] for name in names)
        file, name_column, id_column = tinyface.LISTS[kind]
        cells = np.array(names, object)[:, None]
        content = {name_column: cells, id_column: (subject + 1).astype(np.uint16)[:, None]}
        scipy.io.savemat(folder / "Testing_Set" / file, content)
    media.subject.extend(range(people, people + counts["distractors"]))
    media.paths.extend([f"{tinyface.DISTRACTOR}/{one}.jpg"] for one in range(counts["distractors"]))
    return media, counts


def _ijbs(folder: pathlib.Path, rng: np.random.Generator, scale: float) -> tuple[_Media, dict[str, int]]:
    counts = {name: max(1, round(scale * count)) for name, count in _IJBS.items()}
    people = counts["people"] = max(20, counts["people"])
    videos = counts["videos"] = max(8, counts["videos"])
    seen = rng.permutation(people * videos)[: max(counts["appearances"], 2 * people)]
    # A video in the gallery of each person, and others: each person is in at least two.
    seen = np.unique(np.concatenate([seen, *(np.arange(people) * videos + v for v in (0, 1))]))
    person, video = np.divmod(seen, videos)
    counts["appearances"] = len(seen)
    faces = long_tailed_sizes(rng, len(seen), _FRAMES * len(seen))
    faces[rng.random(len(seen)) < _UNSEEN] = 0
    media, metadata = _Media([], []), ["SUBJECT_ID,FILENAME\n"]
    for one, where, count in zip(person.tolist(), video.tolist(), faces.tolist(), strict=True):
        metadata.append(f"{one + 1},videos/{where + 1}.mp4\n")
        if count:
            media.subject.append(one)
            media.paths.append([f"{one + 1}/videos_{where + 1}_{frame}.jpg" for frame in range(count)])
    for one in range(people):
        for number in range(_BOOKING):
            image = one * _BOOKING + number + 1
            metadata.append(f"{one + 1},img/{image}.jpg\n")
            media.subject.append(one)
            media.paths.append([f"{one + 1}/img_{image}.jpg"])
    (folder / ijbs.METADATA).write_text("".join(metadata))
    (folder / "galleries").mkdir()
    # The first two videos are in galleries; the others are probes, of which one in five is a drone's.
    uav = [f"videos/{one}.mp4\n" for one in range(3, videos + 1) if one % 5 == 0]
    others = [f"videos/{one}.mp4\n" for one in range(3, videos + 1) if one % 5]
    for task, (probes, _) in ijbs.TASKS.items():
        listed = uav if task.startswith("uav") else others
        (folder / probes).write_text("FILENAME\n" + "".join(listed))
        for gallery in (1, 2):
            first, last = ((0, people // 2), (people // 2, people))[gallery - 1]
            rows = []
            for one in range(first, last):
                files = [f"img/{one * _BOOKING + number + 1}.jpg" for number in range(_BOOKING)]
                if task.endswith("single"):
                    files = files[:1]
                elif task.endswith("to_surveillance"):
                    files = [f"videos/{one % 2 + 1}.mp4"]
                rows += [f"{one + 1},{one + 1},{file}\n" for file in files]
            text = "TEMPLATE_ID,SUBJECT_ID,FILENAME\n" + "".join(rows)
            (folder / ijbs.gallery_file(task, gallery)).write_text(text)
    return media, counts


def _write_features(path: pathlib.Path, media: _Media, rng: np.random.Generator, dim: int) -> None:
    order = np.argsort(media.subject, kind="stable")
    subject = np.array(media.subject)[order]
    paths = [media.paths[one] for one in order.tolist()]
    lengths = np.array(list(map(len, paths)))
    drawn = []
    for first in range(0, int(subject[-1]) + 1, _PEOPLE_AT_ONCE):
        part = slice(*np.searchsorted(subject, (first, first + _PEOPLE_AT_ONCE)))
        people = min(_PEOPLE_AT_ONCE, int(subject[-1]) + 1 - first)
        drawn.append(draw_faces(rng, subject[part] - first, lengths[part], people, dim))
    number = np.repeat(np.arange(len(lengths)), lengths)
    table = FeatureTable(
        embeddings=np.concatenate([faces.embeddings for faces in drawn]),
        norms=np.concatenate([faces.norms for faces in drawn]),
        subject=subject[number].astype(np.int64),
        media=number.astype(np.int64),
        paths=np.array([one for held in paths for one in held]),
        name=str(path),
    )
    write_features(path, table)
