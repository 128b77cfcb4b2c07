"""fpsset people enrol, add, move, remove, set-aside, put-back, merge, rename and forget."""

import json
import pathlib

import click

from fpsset.commands.options import PATH, PATH_TEXT, backbone_options, json_option
from fpsset.runtime.escapes import show

_MODEL = click.option(
    "--model", type=PATH_TEXT, help="Workdir, saved or converted weights, or plain.  [default: as before]"
)
_FACES = click.argument(
    "faces", metavar="FACE...", type=click.IntRange(1, 2**63 - 1), nargs=-1, required=True
)


@click.command()
@click.argument("sources", metavar="FEATURES...", type=PATH, nargs=-1, required=True)
@_MODEL
@click.option("--name", help="Name of the one person that all faces show.")
@click.option(
    "--prototypes", metavar="N|auto", help="Vectors a person, at most; of a new store.  [default: 1]"
)
@backbone_options
@json_option
@click.pass_obj
def enrol(
    store: pathlib.Path,
    sources: tuple[pathlib.Path, ...],
    model: str | None,
    name: str | None,
    prototypes: str | None,
    as_json: bool,
    **backbone,
) -> None:
    """Enrol people from feature files or folders of images.

    FEATURES are feature files, or folders with a folder of images for each person
    (with --weights). Names are those of the folders, which feature files keep in
    their column paths, or else the numbers in the column subject. A person who is
    in the store gets the faces too. Faces that came from the same place before are
    left as they are, so a command can be repeated. It enrols all of them, or none.
    """
    from fpsset.commands.people_inputs import model_of, read_named
    from fpsset.errors import InputError
    from fpsset.people.people import People
    from fpsset.people.settings import Settings, prototypes_of, read_settings, remembered
    from fpsset.people.store import open_store

    wanted = prototypes_of(prototypes or "1")
    with open_store(store, create=True) as opened:
        loaded = model_of(opened, model)
        held = read_settings(opened)
        if held and prototypes and held.prototypes != wanted:
            raise InputError(f"{store}: has {held.prototypes} prototypes a person; migrate it to change that")
        read = [read_named(source, name, backbone) for source in sources]
        first = read[0].table
        given = remembered(model) if model else ""
        made = Settings(first.dim, loaded.backbone or first.backbone, given, loaded.digest, wanted)
        people = People(opened, loaded, made)
        with opened.change():  # of all sources, or of none
            done = [(source, people.enrol(table, names, source)) for table, names, source in read]
    if as_json:
        click.echo(json.dumps([{"source": source, **found._asdict()} for source, found in done]))
        return
    for source, found in done:
        known = f"; {found.known_faces} faces were there" if found.known_faces else ""
        show(f"{source}: {found.faces} faces of {found.people} people, {found.new_people} of them new{known}")


@click.command()
@click.argument("name", metavar="NAME")
@click.argument("source", metavar="FEATURES", type=PATH)
@_MODEL
@backbone_options
@click.pass_obj
def add(store: pathlib.Path, name: str, source: pathlib.Path, model: str | None, **backbone) -> None:
    """Add all faces of a file or folder to a person in the store."""
    from fpsset.commands.people_inputs import open_people, read_named

    with open_people(store, model) as people:
        people.number(name)
        table, names, where = read_named(source, name, backbone)
        found = people.enrol(table, names, where)
    show(
        f"{name}: {found.faces} faces more"
        + (f"; {found.known_faces} were there" if found.known_faces else "")
    )


@click.command()
@_FACES
@click.option("--to", "name", required=True, metavar="NAME", help="Who the faces show; made if need be.")
@_MODEL
@click.pass_obj
def move(store: pathlib.Path, faces: tuple[int, ...], name: str, model: str | None) -> None:
    """Move faces, by the numbers that show gives, to another person."""
    from fpsset.commands.people_inputs import open_people

    with open_people(store, model) as people:
        gone = people.move(faces, name)
    show(f"{name}: {len(faces)} faces more")
    _say_gone(gone)


@click.command()
@_FACES
@_MODEL
@click.pass_obj
def remove(store: pathlib.Path, faces: tuple[int, ...], model: str | None) -> None:
    """Remove faces, by the numbers that show gives."""
    from fpsset.commands.people_inputs import open_people

    with open_people(store, model) as people:
        gone = people.remove(faces)
    show(f"{store}: {len(faces)} faces removed")
    _say_gone(gone)


@click.command("set-aside")
@_FACES
@_MODEL
@click.pass_obj
def set_aside(store: pathlib.Path, faces: tuple[int, ...], model: str | None) -> None:
    """Set faces aside: they stay, but no descriptor rests on them."""
    from fpsset.commands.people_inputs import open_people

    with open_people(store, model) as people:
        people.set_aside(faces)
    show(f"{store}: {len(faces)} faces set aside")


@click.command("put-back")
@_FACES
@_MODEL
@click.pass_obj
def put_back(store: pathlib.Path, faces: tuple[int, ...], model: str | None) -> None:
    """Put faces back that were set aside, by hand or as a stranger's."""
    from fpsset.commands.people_inputs import open_people

    with open_people(store, model) as people:
        people.put_back(faces)
    show(f"{store}: {len(faces)} faces put back")


@click.command()
@click.argument("source", metavar="LABELLED", type=PATH_TEXT)
@_MODEL
@click.pass_obj
def strangers(store: pathlib.Path, source: str, model: str | None) -> None:
    """Set aside faces that are not their person's, now and from now on.

    A face is set aside if it is far from what most of its person's photos and
    videos agree on. LABELLED is a feature file of rightly labelled people, which
    tells how far is far; off puts the faces back. show names the faces set aside,
    and put-back puts single ones back.
    """
    from fpsset.commands.people_inputs import open_people
    from fpsset.data.feature_table import known_people
    from fpsset.data.files import read_features
    from fpsset.evaluation.protocols import require_backbone
    from fpsset.people.consensus import fit_odds

    with open_people(store, model) as people:
        odds = None
        if source != "off":
            table = known_people(read_features(source))
            require_backbone(table, people.settings.dim, people.settings.backbone, f"the store {store}")
            odds = fit_odds(table)
        count = people.tell_strangers(odds)
    show(f"{store}: {count} faces are set aside")


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--into", required=True, metavar="NAME", help="Who they all are.")
@_MODEL
@click.pass_obj
def merge(store: pathlib.Path, names: tuple[str, ...], into: str, model: str | None) -> None:
    """Merge people who are one."""
    from fpsset.commands.people_inputs import open_people

    with open_people(store, model) as people:
        people.merge(names, into)
    show(f"{into}: is now {', '.join(names)} too")


@click.command()
@click.argument("name", metavar="NAME")
@click.argument("new", metavar="NEW")
@click.pass_obj
def rename(store: pathlib.Path, name: str, new: str) -> None:
    """Give a person another name."""
    from fpsset.people.people import rename as give
    from fpsset.people.store import open_store

    with open_store(store) as opened:
        give(opened, name, new)
    show(f"{new}: was {name}")


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_obj
def forget(store: pathlib.Path, names: tuple[str, ...]) -> None:
    """Forget people: no byte of them stays in the file.

    The file is rewritten, which takes seconds for a large one. Copies and backups
    that you made of it are yours to delete.
    """
    from fpsset.people.people import forget as wipe
    from fpsset.people.store import open_store

    with open_store(store) as opened:
        count = wipe(opened, names)
    show(f"{', '.join(names)}: forgotten, with {count} faces")


def _say_gone(names: list[str]) -> None:
    for name in names:
        show(f"{name}: has no face left, and is no more in the store")
