"""fpsset fetch: gets models that others publish and anyone may use."""

import click

from fpsset.runtime.escapes import show
from fpsset.weights.fetched import PUBLISHED
from fpsset.weights.fetched import fetch as fetch_model


@click.command()
@click.argument("name", metavar="NAME", type=click.Choice(list(PUBLISHED)))
def fetch(name: str) -> None:
    """Get a published model into the user's cache, and check it to the bit.

    NAME is yunet, the face detector that finds the faces in photos, or sface, a face recogniser for --weights
    with --preset sface. Both are Apache-2.0. Without a connection, put the file there yourself: the message
    says where, and from which address.
    """
    one = PUBLISHED[name]
    path, new = fetch_model(name)
    show(f"{path}: {'fetched' if new else 'is there'}, {one.size} bytes, {one.licence}; {one.what}")
