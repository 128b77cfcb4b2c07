"""Results as tables, a JSON file and pictures."""

import io
import math
import pathlib
import re

from rich.console import Console
from rich.table import Table

from fpsset.evaluation.intervals import limit_name
from fpsset.evaluation.plots import draw_cmc, draw_det, draw_roc
from fpsset.evaluation.protocols import Curves, Metrics, Results
from fpsset.evaluation.verification import FARS, far_name
from fpsset.files import replacing, write_json


def write_report(workdir: pathlib.Path, results: Results, curves: Curves, title: str) -> str:
    """Writes results.json, and in report/ a text for each table and a picture for each kind of curve.

    Args:
      workdir: where to.
      results: as `evaluate` gives them.
      curves: the same.
      title: what was evaluated.

    Returns:
      The tables as text.
    """
    makers = {
        "verification": verification_table,
        "paired": paired_table,
        "identification": identification_table,
    }
    texts = {name: make(results[name], title) for name, make in makers.items() if name in results}
    counts = next(iter(results["verification"].values()))
    pairs = f"{title}\n{counts['genuine_pairs']} genuine, {counts['impostor_pairs']} impostor pairs"
    report = workdir / "report"
    for name in makers:
        if name in texts:
            with replacing(report / f"{name}.txt") as beside:
                beside.write_text(texts[name])
        else:  # an earlier evaluation's would not belong to these results
            (report / f"{name}.txt").unlink(missing_ok=True)
    for name, draw in (("roc", draw_roc), ("det", draw_det)):
        with replacing(report / f"{name}.png") as beside:
            draw(beside, curves["roc"], pairs)
    if "cmc" in curves:
        probes = next(iter(results["identification"].values()))["mated_probes"]
        with replacing(report / "cmc.png") as beside:
            draw_cmc(beside, curves["cmc"], f"{title}\n{probes} mated probes, galleries merged")
    else:
        (report / "cmc.png").unlink(missing_ok=True)
    write_json(workdir / "results.json", results)
    return "\n".join(texts.values())


def verification_table(results: dict[str, Metrics], title: str) -> str:
    """TAR by method and FAR, EER and area under the curve, with intervals, as plain text.

    Beside them the FARs achieved, and how many of the impostor pairs decide: those that a FAR accepts.
    """
    any_method = next(iter(results.values()))
    names = [f"tar@far={far_name(far)}" for far in FARS]
    (table,) = _tables(f"TAR at FAR, {title}", names, results, "tar@far=")
    achieved, deciding = [], []
    for far in FARS:
        values = [metrics[f"achieved_far@far={far_name(far)}"] for metrics in results.values()]
        if None in values:
            achieved.append("not enough\nimpostors")
            deciding.append("")
        else:
            low, high = f"{min(values):.2e}", f"{max(values):.2e}"
            achieved.append(low if low == high else f"{low}\n{high}")
            deciding.append(f"{math.floor(far * any_method['impostor_pairs'] + 1e-6)}")
    table.add_section()
    table.add_row("achieved FAR", *achieved)
    table.add_row("deciding pairs", *deciding)
    how = "the ROC's vertex nearest to the target, as InsightFace's code reads it"
    if any_method["convention"] == "conservative":
        how = "largest accepted set with FAR <= target"
    return _as_text(
        [table, *_tables("Whole curves", ["eer", "auc"], results)],
        f"{any_method['subjects']} subjects, {any_method['templates']} templates, "
        f"{any_method['genuine_pairs']} genuine and {any_method['impostor_pairs']} impostor pairs; {how}; "
        "deciding pairs: the impostor pairs a FAR accepts" + _INTERVALS * ("eer_low" in any_method),
    )


def identification_table(results: dict[str, Metrics], title: str) -> str:
    """Ranks, TPIR at FPIR and the merged-gallery figures by method, as plain text."""
    any_method = next(iter(results.values()))
    names = [name for name in any_method if name.startswith(("rank@", "tpir@", "merged_tpir@"))]
    return _as_text(
        _tables(f"Identification, {title}", names, results),
        f"{any_method['probes']} probes, {any_method['mated_probes']} with a mate, {any_method['gallery']} "
        "gallery templates; tpir: each gallery apart, probes without a mate in it set the threshold, mean "
        "over galleries ('-': too few of them); rank and merged_tpir: galleries merged, no open set"
        + _INTERVALS
        * ("rank_low@1" in any_method),
    )


def paired_table(results: dict[str, Metrics], title: str) -> str:
    """Differences of figures between the model and each other method, with intervals, as plain text."""
    names = [name for name in next(iter(results.values())) if not _LIMIT.search(name)]
    return _as_text(
        _tables(f"Differences, {title}", names, results),
        "on the same draws of the subjects: an interval that holds no zero is a difference" + _INTERVALS,
    )


_LIMIT = re.compile(r"_(low|high)(@|$)")
_COLUMNS = 6  # of a table, so that intervals fit
_INTERVALS = "; 95% intervals by resampling subjects"


def _tables(title: str, names: list[str], results: dict[str, Metrics], prefix: str = "") -> list[Table]:
    """A row a method, a column a figure and its interval, some at a time; headings without `prefix`."""
    tables = []
    for start in range(0, len(names), _COLUMNS):
        table = Table(title=title, title_justify="left")
        table.add_column("method")
        some = names[start : start + _COLUMNS]
        for name in some:
            table.add_column(name.removeprefix(prefix).replace("@", "\n@ "), justify="right")
        for method, metrics in results.items():
            table.add_row(method, *[_cell(metrics, name) for name in some])
        tables.append(table)
    return tables


def _cell(metrics: Metrics, name: str) -> str:
    value = metrics.get(name)
    if value is None:
        return "-"
    low, high = (metrics.get(limit_name(name, end)) for end in ("low", "high"))
    return f"{value:.4f}" if low is None else f"{value:.4f}\n{low:.3f}..{high:.3f}"


def _as_text(tables: list[Table], caption: str) -> str:
    buffer = io.StringIO()
    console = Console(file=buffer, width=120)
    console.print(*tables, sep="")
    console.print(caption, highlight=False, soft_wrap=True)
    return buffer.getvalue()
