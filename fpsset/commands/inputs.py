"""Inputs of commands: a model by name, and faces from a folder or a feature file."""

import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from fpsset.data.feature_table import FeatureTable, known_people
from fpsset.errors import InputError
from fpsset.images.listing import ImageList
from fpsset.inference.aggregator import PlainAggregator, SetAggregator
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
    """

    table: FeatureTable
    names: list[str]
    images: list[np.ndarray | None]
    title: str


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
    """Reads one set from a folder of images, which it embeds, or from a feature file.

    Args:
      source: folder with the images of one person, or with one folder per person; or a feature file.
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
    if source.is_dir():
        return _from_images(source, which, backbone, fix, merge)
    return _from_features(source, which, by, fix, merge)


def read_all_faces(source: pathlib.Path, backbone: dict) -> FeatureTable:
    """Reads a feature file, or embeds a folder of one person's images or with one folder per person.

    People from folders have the names of these, see `FeatureTable.named`.

    Raises:
      InputError: see `read_faces`.
    """
    require_source(source, None, backbone)
    if not source.is_dir():
        from fpsset.data.files import read_features

        return read_features(source)
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
    if not source.is_dir():
        if backbone["weights"]:
            raise InputError(f"{source}: is not a folder of images, so it takes no --weights")
        return
    if by:
        raise InputError(
            f"{source}: is a folder of images, so it takes no --by, which names a column of a feature file"
        )
    require_weights(source, backbone)


def require_weights(source: pathlib.Path, backbone: dict) -> None:
    """Raises InputError unless there is a backbone for a folder of images, and its input is known."""
    if not backbone["weights"]:
        raise InputError(f"{source}: images need a backbone; give --weights BACKBONE")
    if not pathlib.Path(backbone["weights"]).exists():
        raise InputError(f"{backbone['weights']}: no such weights; give --weights BACKBONE")
    if backbone["weights"].endswith(".onnx"):
        for field, example in (("color_order", "bgr"), ("mean", "127.5"), ("std", "127.5")):
            if backbone[field] is None:
                option = "--" + field.replace("_", "-")
                raise InputError(
                    f"{backbone['weights']}: does not specify its input; give {option}, e.g. {example}"
                )


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
    config = ConfigDict({**backbone, "color_order": backbone["color_order"] or "", "dtype": "float32"})
    keep_programs()
    table, faces, problems = embed_images(images, config)
    for problem in problems:
        StepProgress.say(f"left out: {problem}")
    return table, faces


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
    return Faces(table, _short(table.paths.tolist()), faces, which)


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
