"""Results as a table, a JSON file and a picture."""

import io
import pathlib

from rich.console import Console
from rich.table import Table

from fpsset.evaluation.protocols import Curves, Metrics
from fpsset.evaluation.verification import FARS, far_name
from fpsset.files import replacing, write_json

# Readable in grey and by the colour-blind.
_STYLES = {
    "mean": ("#7f7f7f", ":"),
    "norm_weighted": ("#56b4e9", "--"),
    "media_mean": ("#009e73", "-."),
    "fps": ("#e69f00", (0, (5, 1, 1, 1, 1, 1))),
    "fpsset": ("#d55e00", "-"),
}


Results = dict[str, dict[str, Metrics]]


def write_report(workdir: pathlib.Path, results: Results, curves: Curves, title: str) -> str:
    """Writes results.json, and in report/ verification.txt, roc.png and maybe identification.txt.

    Args:
      workdir: where to.
      results: {'verification' and maybe 'identification': {method: {metric: value}}}.
      curves: {method: (FAR, TAR)}.
      title: what was evaluated.

    Returns:
      The tables as text.
    """
    texts = {"verification": verification_table(results["verification"], title)}
    if "identification" in results:
        texts["identification"] = identification_table(results["identification"], title)
    else:  # an earlier evaluation's would not belong to these results
        (workdir / "report" / "identification.txt").unlink(missing_ok=True)
    for name, text in texts.items():
        with replacing(workdir / "report" / f"{name}.txt") as beside:
            beside.write_text(text)
    with replacing(workdir / "report" / "roc.png") as beside:
        _draw_roc(beside, curves, results["verification"], title)
    write_json(workdir / "results.json", results)
    return "\n".join(texts.values())


def verification_table(results: dict[str, Metrics], title: str) -> str:
    """TAR by method and FAR, with intervals, the counts and the FARs achieved, as plain text."""
    any_method = next(iter(results.values()))
    table = Table(title=f"TAR at FAR, {title}", title_justify="left")
    table.add_column("method")
    for far in FARS:
        table.add_column(far_name(far), justify="right")
    for method, metrics in results.items():
        table.add_row(method, *[_cell(metrics, far_name(far)) for far in FARS])
    achieved = []
    for far in FARS:
        values = [metrics[f"achieved_far@far={far_name(far)}"] for metrics in results.values()]
        if None in values:
            achieved.append("not enough\nimpostors")
        else:
            low, high = f"{min(values):.2e}", f"{max(values):.2e}"
            achieved.append(low if low == high else f"{low}\n{high}")
    table.add_section()
    table.add_row("achieved FAR", *achieved)
    how = "the ROC's vertex nearest to the target, as InsightFace's code reads it"
    if any_method["convention"] == "conservative":
        how = "largest accepted set with FAR <= target; 95% intervals by resampling subjects"
    return _as_text(
        table,
        f"{any_method['subjects']} subjects, {any_method['templates']} templates, "
        f"{any_method['genuine_pairs']} genuine and {any_method['impostor_pairs']} impostor pairs; {how}",
    )


def identification_table(results: dict[str, Metrics], title: str) -> str:
    """Ranks, TPIR at FPIR and the merged-gallery figures by method, as plain text."""
    any_method = next(iter(results.values()))
    table = Table(title=f"Identification, {title}", title_justify="left")
    names = [name for name in any_method if "@" in name and "threshold" not in name]
    table.add_column("method")
    for name in names:
        table.add_column(name.replace("@", "\n@ "), justify="right")
    for method, metrics in results.items():
        values = [metrics[name] for name in names]
        table.add_row(method, *["-" if value is None else f"{value:.4f}" for value in values])
    return _as_text(
        table,
        f"{any_method['probes']} probes, {any_method['mated_probes']} with a mate, {any_method['gallery']} "
        "gallery templates; tpir: each gallery apart, probes without a mate in it set the threshold, mean "
        "over galleries ('-': too few of them); rank and merged_tpir: galleries merged, no open set",
    )


def _as_text(table: Table, caption: str) -> str:
    buffer = io.StringIO()
    console = Console(file=buffer, width=110)
    console.print(table)
    console.print(caption, highlight=False, soft_wrap=True)
    return buffer.getvalue()


def _cell(metrics: Metrics, far: str) -> str:
    tar = metrics[f"tar@far={far}"]
    if tar is None:
        return "-"
    if f"tar_low@far={far}" not in metrics:
        return f"{tar:.4f}"
    return f"{tar:.4f}\n{metrics[f'tar_low@far={far}']:.3f}-{metrics[f'tar_high@far={far}']:.3f}"


def _draw_roc(path: pathlib.Path, curves: Curves, results: dict[str, Metrics], title: str) -> None:
    from matplotlib.figure import Figure  # takes a second to import

    figure = Figure(figsize=(6.4, 4.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for method, (far, tar) in curves.items():
        color, style = _STYLES[method]
        axes.plot(
            far,
            tar,
            label=method,
            color=color,
            linestyle=style,
            linewidth=2.2 if method == "fpsset" else 1.5,
            drawstyle="steps-post",
        )
    counts = next(iter(results.values()))
    axes.set_xscale("log")
    axes.set_xlim(min(curve[0][0] for curve in curves.values()), 1)
    axes.set_xlabel("false accept rate")
    axes.set_ylabel("true accept rate")
    lowest = min(curve[1][0] for curve in curves.values())
    axes.set_ylim(max(0.0, lowest - 0.05), 1.005)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    axes.set_title(
        f"{title}\n{counts['genuine_pairs']} genuine, {counts['impostor_pairs']} impostor pairs",
        loc="left",
        fontsize=10,
    )
    figure.savefig(path)
