"""Plots of evaluations: ROC, DET, CMC, errors by norm, size and video, differences of runs."""

import itertools
import pathlib
import textwrap
from collections.abc import Callable, Iterable

import numpy as np

from fpsset.evaluation.metric_names import far_name
from fpsset.evaluation.resampling import Estimate, Interval
from fpsset.evaluation.results import Stratum
from fpsset.runtime.escapes import plot_text

Points = dict[str, tuple[np.ndarray, np.ndarray]]  # method -> x, y
_NO_INTERVAL = Interval(np.nan, np.nan)

# Readable in grey and by the colour-blind (the palette of Okabe and Ito).
STYLES = {
    "mean": ("#7f7f7f", ":"),
    "norm_weighted": ("#56b4e9", "--"),
    "media_mean": ("#009e73", "-."),
    "fps": ("#e69f00", (0, (5, 1, 1, 1, 1, 1))),
    "fpsset": ("#d55e00", "-"),
}
FONT = 11.5  # points: readable where a plot is 400 pixels wide
_CHARACTERS = 52  # of a title's line, at this size
_SHORT = 20  # characters of a name in a legend inside the axes
OTHER_STYLES = [  # for a peer's pooling, and for runs
    ("#cc79a7", (0, (1, 1))),
    ("#0072b2", "--"),
    ("#e69f00", "-."),
    ("#000000", (0, (5, 1, 1, 1, 1, 1))),
    ("#009e73", ":"),
    ("#56b4e9", "-"),
]


def draw_roc(path: pathlib.Path, curves: Points, title: str) -> None:
    """TAR against FAR, from the lowest FAR that the pairs allow."""

    lowest = min(far[0] for far, _ in curves.values())

    def shape(axes) -> None:
        axes.set_xscale("log")
        axes.set_xlim(min(lowest, 0.1), 1)
        axes.set_ylim(max(0.0, min(tar[0] for _, tar in curves.values()) - 0.05), 1.005)
        axes.set_xlabel("false accept rate")
        axes.set_ylabel("true accept rate")
        _legend(axes, "lower right")

    _draw(path, curves, title, shape, drawstyle="steps-post")


def draw_det(path: pathlib.Path, curves: Points, title: str) -> None:
    """FRR against FAR on normal-deviate axes, where two normal score distributions give a straight line.

    These axes have no place for a rate of 0, so a method that never rejects a genuine pair has no line.
    """
    import statistics

    deviate = np.vectorize(statistics.NormalDist().inv_cdf, otypes=[float])
    lowest = min(0.2, *(far[0] for far, _ in curves.values()))
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
        if not any(len(y) for _, y in points.values()):
            axes.set_ylim(deviate(1e-4), deviate(0.6))
            axes.text(
                0.5, 0.5, "no genuine pair is rejected at any FAR", ha="center", transform=axes.transAxes
            )
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


def draw_open_set(path: pathlib.Path, curves: Points, title: str) -> None:
    """TPIR at rank 1 (DIR) against FPIR, from the lowest FPIR that the probes allow."""
    curves = {name: (fpir[fpir > 0], tpir[fpir > 0]) for name, (fpir, tpir) in curves.items()}

    def shape(axes) -> None:
        axes.set_xscale("log")
        axes.set_xlim(right=1)
        axes.set_ylim(top=1.005)
        axes.set_xlabel("false positive identification rate")
        axes.set_ylabel("true positive identification rate, rank 1")
        _legend(axes, "lower right")

    _draw(path, curves, title, shape, drawstyle="steps-post")


def draw_discard(path: pathlib.Path, curves: Points, title: str, norm: str) -> None:
    """FRR against the share of templates discarded; `norm` says by which norm."""

    def shape(axes) -> None:
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.set_xlabel(f"templates discarded, lowest {norm} first")
        axes.set_ylabel("false reject rate")
        _legend(axes)  # lines may run anywhere

    _draw(path, curves, title, shape, drawstyle="default")


def draw_differences(path: pathlib.Path, differences: dict[str, dict[str, Estimate]], title: str) -> None:
    """Differences with their intervals, a row per figure.

    Args:
      path: the PNG.
      differences: label -> name -> difference; all labels have the same names.
      title: above the plot.
    """
    names, points = list(next(iter(differences.values()))), {}
    styles = _styles(["the reference", *differences])  # so that runs keep the colours of their curves
    for number, (label, figures) in enumerate(differences.items()):
        offset = 0.6 * (number - (len(differences) - 1) / 2) / len(differences)
        values, *ends = _with_ends(figures.values())
        points[label] = values, np.arange(len(names)) + offset, ends

    def shape(axes) -> None:
        axes.axvline(0, color="black", linewidth=1)
        for label, (_, y, ends) in points.items():
            axes.hlines(y, *ends, color=styles[label][0], linewidth=1.5)
        axes.set_yticks(range(len(names)), [plot_text(name) for name in names], fontsize=10)
        axes.invert_yaxis()
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel("difference")
        _legend(axes)

    lines = {label: (x, y) for label, (x, y, _) in points.items()}
    height = max(4.2, 1.2 + 0.14 * len(names) * (1 + len(differences)))
    _draw(path, lines, title, shape, height, styles, marker="o", markersize=4, linestyle="none")


def draw_bins(path: pathlib.Path, bins: dict[str, dict[str, Stratum]], title: str, label: str) -> None:
    """TAR with its interval by bin: methods side by side, the number of genuine pairs below each bin.

    Args:
      path: the PNG.
      bins: method -> bin -> TAR.
      title: above the plot.
      label: what the bins are.
    """
    styles, points = _styles(bins), {}
    counts = {name: stratum.genuine_pairs for name, stratum in next(iter(bins.values())).items()}
    for number, (method, strata) in enumerate(bins.items()):
        offset = 0.13 * (number - (len(bins) - 1) / 2)
        values, lows, highs = _with_ends(stratum.rate for stratum in strata.values())
        points[method] = np.arange(len(counts)) + offset, values, np.stack([values - lows, highs - values])

    def shape(axes) -> None:
        for method, (x, y, around) in points.items():
            axes.errorbar(x, y, np.maximum(around, 0), fmt="none", ecolor=styles[method][0], elinewidth=1)
        ticks = [f"{name}\n{count} pairs" for name, count in counts.items()]
        axes.set_xticks(range(len(counts)), ticks, fontsize=10)
        axes.set_xlabel(label)
        axes.set_ylabel("true accept rate")
        _legend(axes)  # lines may run anywhere

    lines = {method: (x, y) for method, (x, y, _) in points.items()}
    _draw(path, lines, title, shape, drawstyle="default", marker="o", markersize=4)


def _with_ends(figures: Iterable[Estimate]) -> np.ndarray:
    """[3, F] values, lower and upper ends of the intervals; NaN where there are none."""
    rows = [
        (np.nan if f.value is None else f.value, *(_NO_INTERVAL if f.interval is None else f.interval))
        for f in figures
    ]
    return np.array(rows, float).T


def _styles(names: Iterable[str]) -> dict[str, tuple]:
    """Name -> (colour, line style)."""
    others = itertools.cycle(OTHER_STYLES)
    return {name: STYLES[name] if name in STYLES else next(others) for name in names}


def _legend(axes, place: str = "") -> None:
    """Puts the legend at `place` inside the axes if its names are short, otherwise below them."""
    short = all(len(name) <= _SHORT for name in axes.get_legend_handles_labels()[1])
    if place and short:
        axes.legend(loc=place, frameon=False)
    else:
        axes.figure.legend(loc="outside lower center", ncols=2 if short else 1, frameon=False)


def _draw(
    path: pathlib.Path,
    curves: Points,
    title: str,
    shape: Callable,
    height: float = 4.6,
    styles: dict[str, tuple] | None = None,
    **line,
) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # takes a second to import

    with rc_context({"font.size": FONT}):
        figure = Figure(figsize=(5.6, height), dpi=170, layout="constrained")
        _draw_lines(figure, curves, title, shape, styles, line)
        write_png(figure, path)


def write_png(figure, path: pathlib.Path) -> None:
    """Draws a figure to a PNG file, once; `savefig` would draw it twice, first for its layout.

    Without the alpha channel, which says nothing here, the file is smaller and encoded in half the time.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image  # on which matplotlib depends

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    Image.fromarray(pixels).save(path, "PNG", dpi=(figure.dpi, figure.dpi))


def wrapped(title: str) -> str:
    """A title as lines that fit above a plot."""
    return "\n".join(
        plot_text(part) for line in title.splitlines() for part in textwrap.wrap(line, _CHARACTERS)
    )


def _draw_lines(figure, curves: Points, title: str, shape: Callable, styles, line: dict) -> None:
    axes = figure.subplots()
    styles = styles or _styles(curves)
    for method, points in curves.items():
        color, style = styles[method]
        width = 2.2 if method == "fpsset" else 1.5
        options = {"color": color, "linestyle": style, "linewidth": width} | line
        axes.plot(*points, label=plot_text(method), **options)
    shape(axes)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(wrapped(title), loc="left", fontsize=FONT)
