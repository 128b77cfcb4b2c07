"""Inputs of commands: a model by name, and faces from a folder or a feature file."""

import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.commands.backbones import backbone_config
from fpsset.data.feature_table import FeatureTable, known_people
from fpsset.errors import InputError
from fpsset.images.listing import ImageList
from fpsset.inference.aggregator import PlainAggregator, SetAggregator
from fpsset.inference.verdicts import Looks
from fpsset.models.pooling import PLAIN_POOLINGS
from fpsset.runtime.programs import keep_programs
from fpsset.runtime.progress import StepProgress

PLAIN = ("plain", *PLAIN_POOLINGS)
FITTED = ("posterior", "whitened")
_LISTED = 8  # sets listed in an error message


class Faces(NamedTuple):
    """One set of N faces.

    Attributes:
      table: N rows.
      names: N short names for display.
      images: N images [112, 112, 3] uint8 RGB, None for faces that have none.
      title: of the set.
      looks: what is known of the pictures.
    """

    table: FeatureTable
    names: list[str]
    images: list[np.ndarray | None]
    title: str
    looks: Looks = Looks()


def load_model(name: str, fit: str | None = None) -> SetAggregator:
    """A model by its path or name.

    Args:
      name: a workdir, saved or converted weights, or a published checkpoint; 'plain', the norm-weighted mean,
        or another name of `PLAIN_POOLINGS`, which need nothing; 'posterior' or 'whitened', fitted here.
      fit: feature file that the latter two are fitted to.

    Raises:
      InputError: there is no such model, or it needs another `fit`.
    """
    if fit and name not in FITTED:
        raise InputError(f"--fit is for the models {' and '.join(FITTED)}; leave it out for {name}")
    keep_programs()
    if name in PLAIN:
        return PlainAggregator(pooling="norm_weighted" if name == "plain" else name)
    if name in FITTED:
        if not fit:
            raise InputError(f"{name}: is fitted to labelled faces first; give them by --fit FEATURES")
        from fpsset.training.closed_form import fit as fit_to

        return fit_to(fit, name)
    path = pathlib.Path(name)
    if not path.exists():
        names = ", ".join(map(repr, (*PLAIN, *FITTED)))
        raise InputError(
            f"{name}: no such model; give a workdir, saved or converted weights, a checkpoint, or {names}"
        )
    from fpsset.inference.loading import load

    return load(path)


def grouped(table: FeatureTable, by: str | None) -> tuple[FeatureTable, np.ndarray]:
    """The faces of sets, and the set of each, [M] int64 or str.

    Args:
      table: faces; by subject, those of nobody known are left out.
      by: column to group by; by default the template if there is one.

    Raises:
      InputError: there is no column 'template', or no known subject.
    """
    if by == "template" and table.template is None:
        raise InputError(f"{table.name}: has no column 'template'; use --by subject")
    if by == "subject" or table.template is None:
        table = known_people(table)
        return table, table.named("subject")
    return table, table.named("template")


def read_faces(
    source: pathlib.Path,
    which: str | None,
    by: str | None,
    backbone: dict,
    fix: str = "choose one with --set, or --merge them",
    merge: bool = False,
) -> Faces:
    """Reads one set from photos or videos, which it embeds, or from a feature file.

    Args:
      source: folder with the images of one person, or with one folder per person; a photo or a video; or a
        feature file.
      which: folder or id of the set; None if there is only one.
      by: column that groups a feature file into sets; see `grouped`.
      backbone: values of `options.backbone_options`, for images.
      fix: advice for the error that is raised if there are several sets and `which` is None.
      merge: all folders or sets of the source are of one person, and make one set.

    Raises:
      InputError: there is no such source or set, several sets but no choice, or no backbone for images.
    """
    require_source(source, by, backbone)
    if merge and which:
        raise InputError("--set chooses one of several sets, and --merge takes them all; give one of the two")
    if is_source(source):
        aligned = needs_no_detector(source, backbone["landmarks"])
        return (_from_images if aligned else _from_photos)(source, which, backbone, fix, merge)
    return _from_features(source, which, by, fix, merge)


def read_all_faces(source: pathlib.Path, backbone: dict) -> FeatureTable:
    """Reads a feature file, or embeds a folder of one person's images or with one folder per person.

    People from folders have the names of these, see `FeatureTable.named`.

    Raises:
      InputError: see `read_faces`.
    """
    require_source(source, None, backbone)
    if not is_source(source):
        from fpsset.data.files import read_features

        return read_features(source)
    if not needs_no_detector(source, backbone["landmarks"]):
        from fpsset.commands.photo_sources import faces_of

        found = say_left_out(faces_of([source], backbone, one_person_of(source)))
        return found.named_table()
    listed = _listed(source, backbone)
    people = [source.resolve().name] if listed.person else listed.people
    table, _ = _embedded(listed.images, backbone)
    return dataclasses.replace(table, labels={"subject": np.array(people, str)})


def require_source(source: pathlib.Path, by: str | None, backbone: dict) -> None:
    """Checks what can be checked of a source before anything is read or embedded.

    Raises:
      InputError: there is no such source, or the options do not suit it.
    """
    if not source.exists():
        raise InputError(f"{source}: no such folder or file")
    if not is_source(source):
        if backbone["weights"]:
            raise InputError(f"{source}: is not a folder of images, so it takes no --weights")
        return
    if by:
        raise InputError(
            f"{source}: is a folder of images, so it takes no --by, which names a column of a feature file"
        )
    backbone_config(backbone, source)


def is_source(path: pathlib.Path) -> bool:
    """Whether a path is a folder, a photo or a video, rather than a feature file."""
    from fpsset.images.photo_listing import is_video
    from fpsset.images.photos import is_photo

    return path.is_dir() or is_photo(path) or is_video(path)


def one_person_of(source: pathlib.Path) -> str:
    """The name of the person of a source that shows one: a folder with photos of its own, or a photo."""
    from fpsset.images.photo_listing import is_video
    from fpsset.images.photos import is_photo

    if not source.is_dir():
        return source.stem if is_photo(source) else ""
    own = any(is_photo(path) or is_video(path) for path in source.iterdir() if path.name[0] != ".")
    return source.resolve().name if own else ""


def needs_no_detector(source: pathlib.Path, landmarks: str) -> bool:
    """Whether images have landmarks, given or in IJB's own list, or are nothing but aligned crops."""
    from fpsset.commands.photo_sources import first_that_is_no_crop
    from fpsset.images.listing import has_landmarks
    from fpsset.images.photo_listing import list_sources

    if landmarks or not source.is_dir():
        return bool(landmarks)
    try:
        return has_landmarks(source) or not first_that_is_no_crop(list_sources([source]))
    except InputError:  # nothing to read, which listing crops says in its words
        return True


def say_left_out(found):
    """The same, after a line on stderr for each photo and face that is left out."""
    for one in found.left_out:
        StepProgress.say(f"left out: {one.name}: {one.why}")
    return found


def _from_features(
    path: pathlib.Path, which: str | None, by: str | None, fix: str, merge: bool = False
) -> Faces:
    from fpsset.data.files import read_features

    table, ids = grouped(read_features(path), by)
    known, ids = np.unique(ids).astype(str).tolist(), ids.astype(str)
    if merge:
        which, rows = "all", np.arange(len(table))
    else:
        which = _chosen(which, known, path, fix)
        rows = np.flatnonzero(ids == which)
    table = table.take(rows)
    names = [f"row {row}" for row in rows]
    if table.paths is not None:
        names = _short(table.paths.tolist())
    return Faces(table, names, [None] * len(names), f"{path.name}, set {which}")


class _Listed(NamedTuple):
    """The images of a folder."""

    images: ImageList
    person: bool  # whether they are all of one person, after whom the folder is named
    people: list[str]  # the names of the folders, in the order of `images.subject`


def _listed(folder: pathlib.Path, backbone: dict) -> _Listed:
    from fpsset.images.listing import list_images, list_person

    options = {"folder_is_video": backbone["folder_is_video"]}
    images = list_person(folder, backbone["landmarks"], **options)
    if images is not None:
        return _Listed(images, True, [folder.resolve().name])
    images = list_images(folder, backbone["landmarks"], **options)
    return _Listed(images, False, sorted({path.partition("/")[0] for path in images.paths}))


def _embedded(images: ImageList, backbone: dict) -> tuple[FeatureTable, list[np.ndarray]]:
    """Features and crops of the images that can be read; says which cannot."""
    from fpsset.images.in_memory import embed_images

    if ignored := images.said_ignored():
        StepProgress.say(ignored)
    config = backbone_config(backbone, images.root)
    keep_programs()
    table, faces, problems = embed_images(images, config)
    for problem in problems:
        StepProgress.say(f"left out: {problem}")
    return table, faces


def _from_photos(
    source: pathlib.Path, which: str | None, backbone: dict, fix: str, merge: bool = False
) -> Faces:
    from fpsset.commands.contact_sheet import face_name, looks_of
    from fpsset.commands.photo_sources import faces_of
    from fpsset.images.listing import files_below

    person = source.resolve().name if merge else one_person_of(source)
    if source.is_dir() and (which or not person):
        below = {path.partition("/")[0] for path in files_below(source) if "/" in path}
        person = _chosen(which, sorted(below), source, fix)
        source, which = source / person, None
    found = say_left_out(faces_of([source], backbone, person))
    ids = [str(number) for number in np.unique(found.table.subject)]
    chosen = _chosen(which, ids, source, fix)
    rows = np.flatnonzero(found.table.subject == int(chosen))
    names = _short([str(path) for path in found.table.paths[rows]])
    if not np.isnan(found.table.time[rows]).all():
        names = [face_name(found, row).rpartition("/")[2] for row in rows]
    title = person or found.people.get(int(chosen), source.name)
    images = [found.image(row) for row in rows]
    return Faces(found.table.take(rows), names, images, title, looks_of(found, rows))


def _from_images(
    folder: pathlib.Path, which: str | None, backbone: dict, fix: str, merge: bool = False
) -> Faces:
    listed = _listed(folder, backbone)
    images = listed.images
    if listed.person and which:  # images beside the folders of people
        from fpsset.images.listing import list_images

        images = list_images(folder, backbone["landmarks"], folder_is_video=backbone["folder_is_video"])
        listed = _Listed(images, False, sorted({path.partition("/")[0] for path in images.paths}))
    if listed.person or merge:
        which = folder.resolve().name
    else:
        which = _chosen(which, listed.people, folder, fix)
        people = np.array([path.partition("/")[0] for path in images.paths])
        images = images.take(np.flatnonzero(people == which))
    table, faces = _embedded(images, backbone)
    from fpsset.images.sharpness import sharpness

    sharp = np.array([sharpness(face) for face in faces])
    looks = Looks(contents=[face.tobytes() for face in faces], sharpness=sharp)
    return Faces(table, _short(table.paths.tolist()), faces, which, looks)


def _chosen(which: str | None, known: list[str], source: pathlib.Path, fix: str) -> str:
    listed = ", ".join(known[:_LISTED]) + ", ..." * (len(known) > _LISTED)
    if which is None and len(known) > 1:
        raise InputError(f"{source}: holds {len(known)} sets ({listed}); {fix}")
    if which is not None and which not in known:
        raise InputError(f"{source}: holds no set {which}; it holds {listed}")
    return which or known[0]


def _short(paths: list[str]) -> list[str]:
    """Paths without the leading folders that all share, and without the suffix if all share it."""
    folders = [path.split("/")[:-1] for path in paths]
    shared = 0
    while all(len(f) > shared for f in folders) and len({f[shared] for f in folders}) == 1:
        shared += 1
    names = ["/".join(path.split("/")[shared:]) for path in paths]
    suffixes = {name.rpartition(".")[2] for name in names}
    return [name.rpartition(".")[0] or name for name in names] if len(suffixes) == 1 else names
