"""Pictures of evaluations: ROC, DET, CMC, error along quality and size, differences of runs."""

import itertools
import pathlib
from collections.abc import Callable, Iterable

import numpy as np

from fpsset.evaluation.resampling import limit_name
from fpsset.evaluation.verification import far_name
from fpsset.reports.tables import Metrics, figure_names

Points = dict[str, tuple[np.ndarray, np.ndarray]]  # method -> x, y
Bins = dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]  # method -> values, and the ends of intervals

# Readable in grey and by the colour-blind: the colours are those of Okabe and Ito.
STYLES = {
    "mean": ("#7f7f7f", ":"),
    "norm_weighted": ("#56b4e9", "--"),
    "media_mean": ("#009e73", "-."),
    "fps": ("#e69f00", (0, (5, 1, 1, 1, 1, 1))),
    "fpsset": ("#d55e00", "-"),
}
_SHORT = 20  # letters of a name in a legend
OTHER_STYLES = [  # of a peer's protocol, or of runs
    ("#cc79a7", (0, (1, 1))),
    ("#0072b2", "--"),
    ("#e69f00", "-."),
    ("#000000", (0, (5, 1, 1, 1, 1, 1))),
    ("#009e73", ":"),
    ("#56b4e9", "-"),
]


def draw_roc(path: pathlib.Path, curves: Points, title: str) -> None:
    """TAR along FAR, from the lowest FAR that the pairs allow."""

    def shape(axes) -> None:
        axes.set_xscale("log")
        axes.set_xlim(min(far[0] for far, _ in curves.values()), 1)
        axes.set_ylim(max(0.0, min(tar[0] for _, tar in curves.values()) - 0.05), 1.005)
        axes.set_xlabel("false accept rate")
        axes.set_ylabel("true accept rate")
        _legend(axes, "lower right")

    _draw(path, curves, title, shape, drawstyle="steps-post")


def draw_det(path: pathlib.Path, curves: Points, title: str) -> None:
    """FRR along FAR on normal deviates, on which the errors of two normal distributions lie on a line."""
    import statistics

    deviate = np.vectorize(statistics.NormalDist().inv_cdf)
    lowest = min(far[0] for far, _ in curves.values())
    ticks = [tick for tick in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5) if tick >= lowest * 0.99]
    points = {}
    for method, (far, tar) in curves.items():
        inside = (far < 1) & (tar < 1) & (tar > 0)
        points[method] = deviate(far[inside]), deviate(1 - tar[inside])
    bottom = min((y.min() for _, y in points.values() if len(y)), default=-2.0)

    def shape(axes) -> None:
        axes.set_xticks(deviate(ticks), [far_name(tick) if tick < 1e-2 else f"{tick:g}" for tick in ticks])
        rates = [
            tick
            for tick in (1e-4, 1e-3, 5e-3, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
            if deviate(tick) >= bottom - 0.3
        ]
        axes.set_yticks(deviate(rates), [f"{rate:g}" for rate in rates])
        axes.set_xlim(deviate(ticks[0]), deviate(0.6))
        axes.set_xlabel("false accept rate")
        axes.set_ylabel("false reject rate")
        _legend(axes, "upper right")

    _draw(path, points, title, shape, drawstyle="default")


def draw_cmc(path: pathlib.Path, curves: Points, title: str) -> None:
    """Share of mated probes found at each rank or better."""

    def shape(axes) -> None:
        axes.set_xticks([1, 5, 10, 15, 20])
        axes.set_ylim(top=1.005)
        axes.set_xlabel("rank")
        axes.set_ylabel("share of mated probes")
        _legend(axes, "best")

    _draw(path, curves, title, shape, drawstyle="default", marker="o", markersize=3)


def draw_discard(path: pathlib.Path, curves: Points, title: str, norm: str) -> None:
    """FRR along the share of templates discarded; `norm` says by which norm, the lowest first."""

    def shape(axes) -> None:
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.set_xlabel(f"templates discarded, lowest {norm} first")
        axes.set_ylabel("false reject rate")
        _legend(axes, "best")

    _draw(path, curves, title, shape, drawstyle="default")


def draw_differences(path: pathlib.Path, differences: dict[str, Metrics], title: str) -> None:
    """Differences of figures and their intervals, a line a figure; they start where nothing differs, at 0.

    Args:
      path: the PNG.
      differences: what is compared -> figures, with the ends of intervals.
      title: above the picture.
    """
    names, points = figure_names(differences), {}
    styles = _styles(["the first run", *differences])  # so that the others have their curves' colours
    for number, (label, metrics) in enumerate(differences.items()):
        below = 0.6 * (number - (len(differences) - 1) / 2) / len(differences)
        ends = [[metrics[limit_name(name, end)] for name in names] for end in ("low", "high")]
        points[label] = np.array([metrics[name] for name in names]), np.arange(len(names)) + below, ends

    def shape(axes) -> None:
        axes.axvline(0, color="black", linewidth=1)
        for label, (_, y, ends) in points.items():
            axes.hlines(y, *ends, color=styles[label][0], linewidth=1.5)
        axes.set_yticks(range(len(names)), names, fontsize=9)
        axes.invert_yaxis()
        axes.set_xlabel("difference")
        _legend(axes)

    lines = {label: (x, y) for label, (x, y, _) in points.items()}
    height = max(4.2, 1.2 + 0.14 * len(names) * (1 + len(differences)))
    _draw(path, lines, title, shape, height, styles, marker="o", markersize=4, linestyle="none")


def draw_bins(path: pathlib.Path, bins: Bins, counts: dict[str, int], title: str, label: str) -> None:
    """A figure and its interval by bin: methods side by side, the number of genuine pairs below each bin."""
    names, styles, points = list(counts), _styles(bins), {}
    for number, (method, (values, lows, highs)) in enumerate(bins.items()):
        aside = 0.13 * (number - (len(bins) - 1) / 2)
        points[method] = np.arange(len(names)) + aside, values, np.stack([values - lows, highs - values])

    def shape(axes) -> None:
        for method, (x, y, around) in points.items():
            axes.errorbar(x, y, np.maximum(around, 0), fmt="none", ecolor=styles[method][0], elinewidth=1)
        axes.set_xticks(range(len(names)), [f"{name}\n{counts[name]} pairs" for name in names], fontsize=9)
        axes.set_xlabel(label)
        axes.set_ylabel("true accept rate")
        _legend(axes, "best")

    lines = {method: (x, y) for method, (x, y, _) in points.items()}
    _draw(path, lines, title, shape, drawstyle="default", marker="o", markersize=4)


def _styles(names: Iterable[str]) -> dict[str, tuple]:
    """Colour and line of each."""
    others = itertools.cycle(OTHER_STYLES)
    return {name: STYLES[name] if name in STYLES else next(others) for name in names}


def _legend(axes, place: str = "") -> None:
    """At a place inside, where the names are short enough to leave room for the curves; else below."""
    if place and all(len(name) <= _SHORT for name in axes.get_legend_handles_labels()[1]):
        axes.legend(loc=place, frameon=False)
    else:
        axes.figure.legend(loc="outside lower center", frameon=False)


def _draw(
    path: pathlib.Path,
    curves: Points,
    title: str,
    shape: Callable,
    height: float = 4.2,
    styles: dict[str, tuple] | None = None,
    **line,
) -> None:
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(5.6, height), dpi=170, layout="constrained")
    axes = figure.subplots()
    styles = styles or _styles(curves)
    for method, points in curves.items():
        color, style = styles[method]
        width = 2.2 if method == "fpsset" else 1.5
        options = {"color": color, "linestyle": style, "linewidth": width} | line
        axes.plot(*points, label=method, **options)
    shape(axes)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=8)
    figure.savefig(path)
