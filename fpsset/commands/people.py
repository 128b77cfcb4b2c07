"""fpsset people: a store of people that is enrolled, searched, edited and decided on."""

import pathlib

import click

from fpsset.commands.options import PATH
from fpsset.commands.people_answers import calibrate, search, verify
from fpsset.commands.people_edits import (
    add,
    enrol,
    forget,
    merge,
    move,
    put_back,
    remove,
    rename,
    set_aside,
    strangers,
)
from fpsset.commands.people_exports import export
from fpsset.commands.people_lists import list_people, show_person
from fpsset.commands.people_migrate import migrate


@click.group()
@click.argument("store", metavar="STORE", type=PATH)
@click.pass_context
def people(context: click.Context, store: pathlib.Path) -> None:
    """Keep people in one file: enrol, search, edit, decide and forget.

    STORE is the file. It holds names, where each face comes from, embeddings and
    the descriptors made of them, and only its owner can read it. A command that
    is killed leaves it as it was before or as it is after.

    \b
      fpsset people family.fps enrol features.npz --model runs/mine
      fpsset people family.fps search somebody.npz
      fpsset people family.fps show anna
      fpsset people family.fps move 17 --to ben
      fpsset people family.fps forget anna
    """
    context.obj = store


for subcommand in (
    *(search, verify, calibrate, export, migrate),
    *(
        enrol,
        add,
        list_people,
        show_person,
        move,
        remove,
        set_aside,
        put_back,
        strangers,
        merge,
        rename,
        forget,
    ),
):
    people.add_command(subcommand)
