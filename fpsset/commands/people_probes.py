"""Sets of faces that are compared with a store."""

import pathlib

import numpy as np

from fpsset.commands.people_inputs import read_named
from fpsset.errors import InputError
from fpsset.evaluation.protocols import require_backbone
from fpsset.people.people import People
from fpsset.people.trials import Probes
from fpsset.runtime.progress import StepProgress


def read_probes(people: People, source: pathlib.Path, backbone: dict, labelled: bool = False) -> Probes:
    """Describes the sets in a feature file or folder of images.

    Args:
      people: the store and its model.
      source: the file or folder.
      backbone: see `read_named`.
      labelled: the sets are labelled with names, and faces enrolled from the same place are left out.

    Returns:
      The sets, whose names are those of their people if `labelled`, else what to call the sets.

    Raises:
      InputError: there is no such source, its embeddings are of another backbone, or no face is left.
    """
    table, names, where = read_named(source, None if labelled else "", backbone)
    settings = people.settings
    require_backbone(table, settings.dim, settings.backbone, f"the store {people.store.path}")
    sets = table.subject if table.template is None else table.template
    if labelled:
        names, sets, table = _without_enrolled(people, table, np.array(names), sets, where)
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
    return Probes(found.descriptors, called, sizes, quality.astype(np.float32))


def _without_enrolled(people: People, table, names, sets, where: str):
    places = table.paths.tolist() if table.paths is not None else range(len(table))
    rows = people.store.sql.execute(
        "select place from faces join sources on sources.id = source where sources.name = ?", (where,)
    )
    enrolled = {place for (place,) in rows}
    kept = np.array([place not in enrolled for place in places])
    if not kept.any():
        raise InputError(f"{where}: all its faces are enrolled; give other faces")
    if not kept.all():
        StepProgress.say(f"{where}: {int((~kept).sum())} faces are left out, because they are enrolled")
    return names[kept], sets[kept], table.take(kept)
