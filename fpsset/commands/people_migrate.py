"""fpsset people migrate."""

import pathlib

import click

from fpsset.commands.options import PATH, PATH_TEXT, backbone_options
from fpsset.runtime.escapes import show


@click.command()
@click.option("--model", type=PATH_TEXT, required=True, help="The new model: a path, or plain.")
@click.option("--from", "source", type=PATH, metavar="FEATURES", help="Faces embedded by a new backbone.")
@click.option("--prototypes", metavar="N|auto", help="Vectors a person from now on.  [default: as before]")
@backbone_options
@click.pass_obj
def migrate(
    store: pathlib.Path, model: str, source: pathlib.Path | None, prototypes: str | None, **backbone
) -> None:
    """Give the store another model, and its faces a new backbone's embeddings.

    FEATURES is the folder of images (with --weights) or a feature file, with the
    paths or rows that were enrolled. Faces that are not in it are mapped, by a map
    fitted to those that have both embeddings; show and list mark them, and what it
    costs in TAR is printed. Calibrate again afterwards.
    """
    from fpsset.commands.inputs import FITTED, load_model
    from fpsset.commands.people_inputs import read_named
    from fpsset.errors import InputError
    from fpsset.people.migration import migrate as give
    from fpsset.people.settings import prototypes_of, remembered
    from fpsset.people.store import open_store

    if model in FITTED:
        raise InputError(f"{model}: is fitted to faces first; fpsset fit FEATURES OUT, then --model OUT")
    wanted = prototypes_of(prototypes) if prototypes else None
    table = read_named(source, "", backbone).table if source else None
    loaded = load_model(model)
    with open_store(store) as opened:
        done = give(opened, loaded, remembered(model), table, wanted)
    show(f"{store}: now by {loaded.name}")
    if table is not None:
        show(f"{done.embedded} faces have the new backbone's embeddings, {done.mapped} are mapped")
    if done.cost:
        far, embedded, mapped, people = done.cost
        show(
            f"mapping costs: TAR at FAR {far:g} is {mapped:.4f} with a mapped gallery and {embedded:.4f} "
            f"without, on {people} people whom the map was not fitted to"
        )
    elif done.mapped:
        show("what mapping costs is not known: too few people have both embeddings in two media")
