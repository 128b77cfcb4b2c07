"""Sets of faces that are compared with a store."""

import pathlib

import numpy as np

from fpsset.commands.people_inputs import read_named
from fpsset.data.feature_table import FeatureTable
from fpsset.errors import InputError
from fpsset.evaluation.protocols import require_backbone
from fpsset.people.people import People
from fpsset.people.trials import Probes
from fpsset.runtime.progress import StepProgress


def read_probes(people: People, source: pathlib.Path, backbone: dict, labelled: bool = False) -> Probes:
    """Describes the sets in a feature file or folder of images; a face of nobody known is one of its own.

    Args:
      people: the store and its model.
      source: the file or folder.
      backbone: see `read_named`.
      labelled: the sets are labelled with names, and faces that are enrolled are left out.

    Returns:
      The sets, whose names are those of their people if `labelled`, else what to call the sets.

    Raises:
      InputError: there is no such source, its embeddings are of another backbone, or no face is left.
    """
    table, names, _ = read_named(source, None if labelled else "", backbone)
    settings = people.settings
    require_backbone(table, settings.dim, settings.backbone, f"the store {people.store.path}")
    sets = table.template
    if sets is None:
        sets = np.where(table.subject < 0, np.arange(len(table)) - len(table), table.subject)
    if labelled:
        names, sets, table = _without_enrolled(people, table, np.array(names), sets)
    found = people.model.aggregate(table.embeddings, table.norms, sets, media=table.media)
    _, first, which, sizes = np.unique(sets, return_index=True, return_inverse=True, return_counts=True)
    quality = np.bincount(which, table.norms) / sizes
    if labelled:
        called = [str(names[row]) for row in first]
    elif len(first) == 1:
        called = [source.name]
    else:
        column = "subject" if table.template is None else "template"
        called = [f"set {name}" for name in table.named(column)[first].tolist()]
        for place in np.flatnonzero(sets[first] < 0) if table.template is None else ():
            row = first[place]
            called[place] = f"row {row}" if table.paths is None else f"row {row}, {table.paths[row]}"
    return Probes(found.descriptors, called, sizes, quality.astype(np.float32))


def _without_enrolled(people: People, table: FeatureTable, names: np.ndarray, sets: np.ndarray):
    """The faces that are not in the store, wherever they were enrolled from."""
    kept = ~people.holds(table)
    if not kept.any():
        raise InputError(f"{table.name}: all its faces are enrolled; give other faces")
    if not kept.all():
        StepProgress.say(f"{table.name}: {int((~kept).sum())} faces are left out, because they are enrolled")
    return names[kept], sets[kept], table.take(kept)
