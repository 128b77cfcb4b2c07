"""Pictures of report pages: plots with their captions."""

import pathlib
from collections.abc import Callable
from typing import NamedTuple

from fpsset.reports.plots import Points, draw_cmc, draw_det, draw_open_set, draw_roc
from fpsset.runtime.files import replacing


class Picture(NamedTuple):
    """A PNG, the section of the page that shows it, and its caption."""

    path: pathlib.Path
    section: str
    caption: str


def make_picture(path: pathlib.Path, section: str, caption: str, draw: Callable, *arguments) -> Picture:
    """Draws a picture with a function of `plots`, replacing the file atomically."""
    with replacing(path) as partial:
        draw(partial, *arguments)
    return Picture(path, section, caption)


# File -> (its curve, how to draw it, caption).
_CURVES = {
    "roc": ("roc", draw_roc, "ROC: true accept rate against false accept rate."),
    "det": ("roc", draw_det, "DET: false reject rate against false accept rate, on normal-deviate axes."),
    "cmc": ("cmc", draw_cmc, "CMC: share of mated probes found at each rank or better, galleries merged."),
    "dir": (
        "dir",
        draw_open_set,
        "DIR against FAR: the share of mated probes found at rank 1 above the threshold (TPIR) against the "
        "share of the probes without a mate that find anybody (FPIR), the mean over galleries.",
    ),
}


def draw_curves(
    folder: pathlib.Path, curves: dict[str, Points], places: dict[str, tuple[str, str]], suffix: str = ""
) -> list[Picture]:
    """Draws ROC and DET, CMC, and DIR against FAR, those that there are.

    Args:
      folder: of the PNG files.
      curves: 'roc', 'cmc', 'dir' -> method -> points.
      places: the same -> (section of the page, title above the plot).
      suffix: of the files' names.
    """
    pictures = []
    for name, (curve, draw, caption) in _CURVES.items():
        path = folder / f"{name}{suffix}.png"
        if curve in curves:
            section, title = places[curve]
            pictures.append(make_picture(path, section, caption, draw, curves[curve], title))
    return pictures
