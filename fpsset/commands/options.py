"""Options that commands share, so that one word means one thing."""

from collections.abc import Callable

import click

_BACKBONE = (
    click.option(
        "--weights", metavar="BACKBONE", help="What embeds images: converted weights, a checkpoint, an .onnx."
    ),
    click.option("--color-order", type=click.Choice(["bgr", "rgb"]), help="What an .onnx takes."),
    click.option("--mean", type=float, help="What an .onnx wants subtracted from pixels of 0..255,"),
    click.option("--std", type=float, help="and what they are then divided by."),
    click.option(
        "--landmarks", default="", metavar="FILE", help="Lines 'name x1 y1 ... x5 y5', for faces not aligned."
    ),
)


def model_argument(command: Callable) -> Callable:
    """MODEL: a workdir, converted weights, a published checkpoint, or 'plain'."""
    return click.argument("model", metavar="MODEL")(command)


def backbone_options(command: Callable) -> Callable:
    """How images become embeddings."""
    for option in reversed(_BACKBONE):
        command = option(command)
    return command


def json_option(command: Callable) -> Callable:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")(command)


def by_option(command: Callable) -> Callable:
    """--by, which faces make a set."""
    return click.option(
        "--by",
        type=click.Choice(["template", "subject"]),
        help="The column that tells sets apart.  [default: template where there is one]",
    )(command)
