"""fpsset people list and show."""

import json
import pathlib

import click

from fpsset.commands.options import json_option
from fpsset.runtime.escapes import show


@click.command("list")
@json_option
@click.pass_obj
def list_people(store: pathlib.Path, as_json: bool) -> None:
    """List the people in the store, with the number of their faces."""
    from fpsset.people.lists import listed
    from fpsset.people.store import open_store

    with open_store(store) as opened:
        rows = listed(opened)
    if as_json:
        click.echo(json.dumps([row._asdict() for row in rows]))
        return
    for row in rows:
        aside = f", {row.aside} of them set aside" if row.aside else ""
        mapped = f", {row.mapped} mapped from another backbone" if row.mapped else ""
        show(f"{row.name}: {row.faces} faces from {row.media} media{aside}{mapped}")
    show(f"{len(rows)} people, {sum(row.faces for row in rows)} faces")


@click.command("show")
@click.argument("name", metavar="NAME")
@json_option
@click.pass_obj
def show_person(store: pathlib.Path, name: str, as_json: bool) -> None:
    """Show a person's faces: number, norm, cosine to the mean of them, source."""
    from fpsset.people.lists import shown
    from fpsset.people.store import open_store

    with open_store(store) as opened:
        rows = shown(opened, name)
    if as_json:
        click.echo(json.dumps([row._asdict() for row in rows]))
        return
    for row in rows:
        where = row.place if isinstance(row.place, str) else f"row {row.place}"
        figures = f"norm {row.norm:6.2f}  cosine {row.cosine:5.2f}  {row.state:<8}"
        mapped = " (mapped)" if row.mapped else ""
        show(f"{row.face:>8}  {figures}  {row.source}: {where}{mapped}")
