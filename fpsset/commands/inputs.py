"""Inputs of commands: a model by name, and one set of faces from a folder or a feature file."""

import pathlib
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from fpsset.data.feature_table import FeatureTable, known_people
from fpsset.errors import InputError
from fpsset.images.presets import PRESETS, completed
from fpsset.inference.aggregator import PlainAggregator, SetAggregator
from fpsset.runtime.programs import keep_programs
from fpsset.runtime.progress import StepProgress

PLAIN = "plain"
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
      name: a workdir, saved or converted weights, or a published checkpoint; 'plain', which needs nothing;
        'posterior' or 'whitened', fitted here.
      fit: feature file that the latter two are fitted to.

    Raises:
      InputError: there is no such model, or it needs another `fit`.
    """
    if fit and name not in FITTED:
        raise InputError(f"--fit is for the models {' and '.join(FITTED)}; leave it out for {name}")
    keep_programs()
    if name == PLAIN:
        return PlainAggregator()
    if name in FITTED:
        if not fit:
            raise InputError(f"{name}: is fitted to labelled faces first; give them by --fit FEATURES")
        from fpsset.training.closed_form import fit as fit_to

        return fit_to(fit, name)
    path = pathlib.Path(name)
    if not path.exists():
        names = ", ".join(map(repr, (PLAIN, *FITTED)))
        raise InputError(
            f"{name}: no such model; give a workdir, saved or converted weights, a checkpoint, or {names}"
        )
    from fpsset.inference.loading import load

    return load(path)


def grouped(table: FeatureTable, by: str | None) -> tuple[FeatureTable, np.ndarray]:
    """The faces of sets, and the set of each, [M] int64.

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
        return table, table.subject
    return table, table.template


def read_faces(
    source: pathlib.Path,
    which: str | None,
    by: str | None,
    backbone: dict,
    fix: str = "choose one with --set",
) -> Faces:
    """Reads one set from a folder of images, which it embeds, or from a feature file.

    Args:
      source: folder with the images of one person, or with one folder per person; or a feature file.
      which: folder or id of the set; None if there is only one.
      by: column that groups a feature file into sets; see `grouped`.
      backbone: `weights`, `color_order`, `mean`, `std` and `landmarks`, for images.
      fix: advice for the error that is raised if there are several sets and `which` is None.

    Raises:
      InputError: there is no such source or set, several sets but no choice, or no backbone for images.
    """
    if not source.exists():
        raise InputError(f"{source}: no such folder or file")
    if not source.is_dir():
        if backbone["weights"]:
            raise InputError(f"{source}: is not a folder of images, so it takes no --weights")
        return _from_features(source, which, by, fix)
    if by:
        raise InputError(
            f"{source}: is a folder of images, so it takes no --by, which names a column of a feature file"
        )
    return _from_images(source, which, backbone, fix)


def backbone_config(backbone: dict, source: object) -> ConfigDict:
    """What `load_recogniser` reads, from the options of a command.

    Args:
      backbone: values of `options.backbone_options`.
      source: what is to be embedded, for messages.

    Raises:
      InputError: there is no backbone, or an ONNX file comes without the settings of its input; the message
        names all that are missing.
    """
    if not backbone["weights"]:
        raise InputError(f"{source}: images need a backbone; give --weights BACKBONE")
    if not pathlib.Path(backbone["weights"]).exists():
        raise InputError(f"{backbone['weights']}: no such weights; give --weights BACKBONE")
    fields = completed(backbone, backbone["preset"])
    missing = ["--" + name.replace("_", "-") for name, value in fields.items() if value is None]
    if backbone["weights"].endswith(".onnx") and missing:
        raise InputError(
            f"{backbone['weights']}: does not specify its input; give --preset ({', '.join(PRESETS)}), or "
            f"{', '.join(missing)}, e.g. --color-order bgr --mean 127.5 --std 127.5"
        )
    fields["color_order"] = fields["color_order"] or ""
    return ConfigDict({"weights": backbone["weights"], **fields, "dtype": "float32"})


def _from_features(path: pathlib.Path, which: str | None, by: str | None, fix: str) -> Faces:
    from fpsset.data.files import read_features

    table, ids = grouped(read_features(path), by)
    known = [str(i) for i in np.unique(ids)]
    which = _chosen(which, known, path, fix)
    table = table.take(ids == int(which))
    names = [f"row {row}" for row in np.flatnonzero(ids == int(which))]
    if table.paths is not None:
        names = _short(table.paths.tolist())
    return Faces(table, names, [None] * len(names), f"{path.name}, set {which}")


def _from_images(folder: pathlib.Path, which: str | None, backbone: dict, fix: str) -> Faces:
    from fpsset.images.in_memory import embed_images
    from fpsset.images.listing import list_images, list_person

    config = backbone_config(backbone, folder)
    images = list_person(folder, backbone["landmarks"])
    if images is None or which:
        images = list_images(folder, backbone["landmarks"])
        people = [path.partition("/")[0] for path in images.paths]
        which = _chosen(which, sorted(set(people)), folder, fix)
        images = images.take(np.flatnonzero(np.array(people) == which))
    else:
        which = folder.resolve().name
    if ignored := images.said_ignored():
        StepProgress.say(ignored)
    keep_programs()
    table, faces, problems = embed_images(images, config)
    for problem in problems:
        StepProgress.say(f"left out: {problem}")
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
