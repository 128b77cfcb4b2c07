"""How a model learned: the loss and the validation of a training run, from its metrics.jsonl."""

import json
import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.reports.plots import FONT, wrapped, write_png
from fpsset.runtime.files import replacing

_FEWEST = 3  # logged steps that make a curve
_LOSS, _VALIDATION = "#0072b2", "#d55e00"


class Learning(NamedTuple):
    """What a training run logged."""

    steps: np.ndarray  # [L] int
    loss: np.ndarray  # [L]
    validated: np.ndarray  # [V] int, steps
    validation: np.ndarray  # [V]
    metric: str  # of the validation, e.g. 'tar@far=1e-3'


def read_learning(workdir: pathlib.Path) -> Learning | None:
    """Reads the log of a workdir; None if nothing was trained there, as where a model is fitted."""
    path = workdir / "metrics.jsonl"
    if not path.is_file():
        return None
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    lost = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    if len(lost) < _FEWEST:
        return None
    prefix = "validation_"
    names = sorted({name for line in lines for name in line if name.startswith(prefix)})
    kept = [(line["step"], line[names[0]]) for line in lines if names and line.get(names[0]) is not None]
    steps, loss = np.array(lost, float).T
    validated, validation = np.array(kept, float).reshape(-1, 2).T
    return Learning(steps, loss, validated, validation, names[0].removeprefix(prefix) if names else "")


def smoothed(values: np.ndarray, span: float = 0.1) -> np.ndarray:
    """An exponential mean of the values before each, corrected for its start.

    Args:
      values: [L].
      span: the share of them that the mean reaches back over.

    Returns:
      [L].

    Example:
      >>> smoothed(np.array([2.0, 2.0, 2.0])).tolist()
      [2.0, 2.0, 2.0]
    """
    keep = 1 - 1 / max(1.0, span * len(values))
    mean, weight, found = 0.0, 0.0, []
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + 1 - keep
        found.append(mean / weight)
    return np.array(found)


def draw_learning(path: pathlib.Path, found: Learning, title: str) -> None:
    """The loss, faint as logged and smoothed, above the validation on held-out people."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = 1 + bool(len(found.validated))
    with rc_context({"font.size": FONT}):
        figure = Figure(figsize=(5.6, 2.4 + 1.8 * panels), dpi=170, layout="constrained")
        top, *below = np.ravel(figure.subplots(panels, 1, sharex=True, squeeze=False))
        top.plot(found.steps, found.loss, color=_LOSS, alpha=0.3, linewidth=1, label="as logged")
        top.plot(found.steps, smoothed(found.loss), color=_LOSS, linewidth=2.2, label="smoothed")
        top.set_ylabel("loss")
        top.legend(frameon=False)
        top.set_title(wrapped(title), loc="left", fontsize=FONT)
        for axes in below:
            axes.plot(found.validated, found.validation, "o-", color=_VALIDATION, markersize=4)
            axes.set_ylabel(f"held-out people\n{found.metric}")
        (below or [top])[-1].set_xlabel("step")
        for axes in (top, *below):
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        with replacing(path) as partial:
            write_png(figure, partial)
