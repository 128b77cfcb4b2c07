"""fpsset people export."""

import pathlib

import click

from fpsset.commands.options import PATH_TEXT
from fpsset.runtime.escapes import show

_ENGINES = ("faiss", "qdrant", "pgvector", "parquet")


@click.command()
@click.argument("target", metavar="OUT", type=PATH_TEXT)
@click.option("--to", "engine", type=click.Choice(_ENGINES), required=True, help="What will load OUT.")
@click.pass_obj
def export(store: pathlib.Path, target: str, engine: str) -> None:
    """Write everybody's vectors for another engine.

    OUT is a file; for qdrant a folder, which QdrantClient(path=OUT) opens, or the
    address of a server. A faiss index also speeds up search --index OUT. What is
    forgotten in the store stays in OUT, which is yours to delete.
    """
    from fpsset.errors import InputError
    from fpsset.people.exports import export_gallery
    from fpsset.people.gallery import read_gallery
    from fpsset.people.settings import read_settings
    from fpsset.people.store import open_store

    if pathlib.Path(target).resolve() == store.resolve():
        raise InputError(f"{target}: is also STORE; give another OUT")
    with open_store(store) as opened:
        gallery = read_gallery(opened)
        model = read_settings(opened).digest
    show(export_gallery(gallery, model, engine, target))
