"""Options and arguments that several commands share."""

import os
import pathlib
from collections.abc import Callable

import click

from fpsset.images.presets import PRESETS


class PathOf(click.Path):
    """A path, in which a leading ~ is the home folder, as in --weights=~/x, where shells leave it alone."""

    def convert(self, value, param, ctx):
        """The path as `path_type`."""
        return super().convert(os.path.expanduser(value), param, ctx)


PATH = PathOf(path_type=pathlib.Path)
PATH_TEXT = PathOf()

_BACKBONE = (
    click.option(
        "--weights",
        type=PATH_TEXT,
        metavar="BACKBONE",
        help="Backbone for images: converted weights, a checkpoint or an .onnx file.",
    ),
    click.option(
        "--preset", type=click.Choice(list(PRESETS)), help="Family of an .onnx backbone: its input."
    ),
    click.option("--color-order", type=click.Choice(["bgr", "rgb"]), help="Input of an .onnx backbone."),
    click.option("--mean", type=float, help="Mean of pixels in 0..255, for an .onnx backbone."),
    click.option("--std", type=float, help="Their standard deviation, for an .onnx backbone."),
    click.option(
        "--landmarks",
        type=PATH_TEXT,
        default="",
        metavar="FILE",
        help="Lines 'name x1 y1 ... x5 y5', to align faces.",
    ),
    click.option("--folder-is-video", is_flag=True, help="A folder inside a person's folder is one video."),
    click.option(
        "--detector",
        type=PATH,
        metavar="FILE",
        help="YuNet .onnx that finds faces in photos.  [default: what fpsset fetch yunet got]",
    ),
)


def simulation_options(*protocols: str) -> Callable:
    """Adds OUT, --like, one of `protocols` and by default the first, --scale, --dim and --seed."""
    added = (
        click.argument("target", metavar="OUT", type=PATH),
        click.option(
            "--like",
            type=click.Choice(protocols),
            default=protocols[0],
            show_default=True,
            help="Protocol.",
        ),
        click.option("--scale", default=1.0, show_default=True, help="Factor of all counts."),
        click.option("--dim", default=512, show_default=True, help="Width of the embeddings."),
        click.option("--seed", default=0, show_default=True, help="Random seed."),
    )

    def add(command: Callable) -> Callable:
        for one in reversed(added):
            command = one(command)
        return command

    return add


def model_argument(command: Callable) -> Callable:
    """Adds MODEL, and --fit for models that are fitted on the spot; see `inputs.load_model`."""
    return click.argument("model", type=PATH_TEXT, metavar="MODEL")(fit_option(command))


def fit_option(command: Callable) -> Callable:
    """Adds --fit."""
    return click.option(
        "--fit",
        type=PATH_TEXT,
        metavar="FEATURES",
        help="Labelled faces that the model 'posterior' or 'whitened' is fitted to first.",
    )(command)


def merge_option(command: Callable) -> Callable:
    """Adds --merge, for sources of one person in several folders or sets."""
    return click.option(
        "--merge", is_flag=True, help="All folders or sets of a source are of one person: merge them."
    )(command)


def backbone_options(command: Callable) -> Callable:
    """Adds the options that say how images are embedded."""
    for option in reversed(_BACKBONE):
        command = option(command)
    return command


def json_option(command: Callable) -> Callable:
    """Adds --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")(command)


def by_option(command: Callable) -> Callable:
    """Adds --by, the column that defines the sets."""
    return click.option(
        "--by",
        type=click.Choice(["template", "subject"]),
        help="Column that defines the sets.  [default: template if present, else subject]",
    )(command)
