"""The page of a comparison: curves of the runs on the same axes, and the differences with their intervals."""

import pathlib

from fpsset.evaluation.comparison import Run, labels
from fpsset.evaluation.page import Picture, drawn, write_page
from fpsset.evaluation.plots import draw_cmc, draw_det, draw_differences, draw_roc
from fpsset.evaluation.report import write_tables
from fpsset.evaluation.tables import Section


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
    pictures = [
        drawn(folder / "differences.png", made.name, caption, draw_differences, differences, title),
    ]
    for kind, draw, curve, caption in (
        ("roc", draw_roc, "roc", "ROC: true accept rate along false accept rate."),
        ("det", draw_det, "roc", "DET: both errors on normal deviates."),
        (
            "cmc",
            draw_cmc,
            "cmc",
            "CMC: share of mated probes found at each rank or better, galleries merged.",
        ),
    ):
        (folder / f"{kind}.png").unlink(missing_ok=True)  # an earlier comparison's
        points = {
            name: run.curves[curve][method]
            for name, run in zip(names, runs, strict=True)
            if curve in run.curves
        }
        if points:
            pictures.append(drawn(folder / f"{kind}.png", made.name, caption, draw, points, title))
    return pictures
