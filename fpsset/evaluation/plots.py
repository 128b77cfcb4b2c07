"""Pictures of an evaluation: ROC, DET and CMC."""

import pathlib
from collections.abc import Callable

import numpy as np

Points = dict[str, tuple[np.ndarray, np.ndarray]]  # method -> x, y

# Readable in grey and by the colour-blind.
STYLES = {
    "mean": ("#7f7f7f", ":"),
    "norm_weighted": ("#56b4e9", "--"),
    "media_mean": ("#009e73", "-."),
    "fps": ("#e69f00", (0, (5, 1, 1, 1, 1, 1))),
    "fpsset": ("#d55e00", "-"),
}


def draw_roc(path: pathlib.Path, curves: Points, title: str) -> None:
    """TAR along FAR, from the lowest FAR that the pairs allow."""

    def shape(axes) -> None:
        axes.set_xscale("log")
        axes.set_xlim(min(far[0] for far, _ in curves.values()), 1)
        axes.set_ylim(max(0.0, min(tar[0] for _, tar in curves.values()) - 0.05), 1.005)
        axes.set_xlabel("false accept rate")
        axes.set_ylabel("true accept rate")
        axes.legend(loc="lower right", frameon=False)

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
        axes.set_xticks(deviate(ticks), [f"{tick:g}" for tick in ticks])
        rates = [
            tick
            for tick in (1e-4, 1e-3, 5e-3, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
            if deviate(tick) >= bottom - 0.3
        ]
        axes.set_yticks(deviate(rates), [f"{rate:g}" for rate in rates])
        axes.set_xlim(deviate(ticks[0]), deviate(0.6))
        axes.set_xlabel("false accept rate")
        axes.set_ylabel("false reject rate")
        axes.legend(loc="upper right", frameon=False)

    _draw(path, points, title, shape, drawstyle="default")


def draw_cmc(path: pathlib.Path, curves: Points, title: str) -> None:
    """Share of mated probes found at each rank or better."""

    def shape(axes) -> None:
        axes.set_xticks([1, 5, 10, 15, 20])
        axes.set_ylim(top=1.005)
        axes.set_xlabel("rank")
        axes.set_ylabel("share of mated probes")
        axes.legend(loc="best", frameon=False)

    _draw(path, curves, title, shape, drawstyle="default", marker="o", markersize=3)


def _draw(path: pathlib.Path, curves: Points, title: str, shape: Callable, **line) -> None:
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(6.4, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for method, (x, y) in curves.items():
        color, style = STYLES.get(method, ("#cc79a7", (0, (1, 1))))  # the protocol of a peer
        width = 2.2 if method == "fpsset" else 1.5
        axes.plot(x, y, label=method, color=color, linestyle=style, linewidth=width, **line)
    shape(axes)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=10)
    figure.savefig(path)
