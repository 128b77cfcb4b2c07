"""The page of a comparison: curves of the runs on the same axes, and the differences with their intervals."""

import pathlib

from fpsset.reports.comparison import Run, labels
from fpsset.reports.pages import Picture, drawn, write_page
from fpsset.reports.plots import draw_cmc, draw_det, draw_differences, draw_roc
from fpsset.reports.report import write_tables
from fpsset.reports.tables import Section

# Picture -> the curve it shows, how it is drawn, what it is.
_CURVES = {
    "roc": ("roc", draw_roc, "ROC: true accept rate along false accept rate."),
    "det": ("roc", draw_det, "DET: both errors on normal deviates."),
    "cmc": ("cmc", draw_cmc, "CMC: share of mated probes at each rank or better, galleries merged."),
}


def write_comparison(folder: pathlib.Path, runs: list[Run], made: Section, method: str) -> None:
    """Writes index.html, the tables in three forms, and the pictures.

    Args:
      folder: where to.
      runs: those compared.
      made: what `compare` made of them.
      method: of each run.
    """
    write_tables(folder, [made])
    pictures = _draw_all(folder, runs, made, method)
    facts = {f"{run.name}: {name}": value or "not known" for run in runs for name, value in run.about.items()}
    write_page(folder / "index.html", f"Comparison: {made.title}", [], [made], pictures, facts, {})


def _draw_all(folder: pathlib.Path, runs: list[Run], made: Section, method: str) -> list[Picture]:
    names = labels(runs)
    differences = {name: metrics for name, metrics in made.figures.items() if name not in names}
    title = f"{method} of each run"
    caption = (
        "Differences with 95% intervals: right of zero the first-named run has more of the figure, "
        "which is better except for the equal error rate."
    )
    path = folder / "differences.png"
    pictures = [drawn(path, made.name, caption, draw_differences, differences, title)]
    for kind, (curve, draw, caption) in _CURVES.items():
        path = folder / f"{kind}.png"
        path.unlink(missing_ok=True)  # an earlier comparison's
        if all(curve in run.curves for run in runs):
            points = {name: run.curves[curve][method] for name, run in zip(names, runs, strict=True)}
            pictures.append(drawn(path, made.name, caption, draw, points, title))
    return pictures
