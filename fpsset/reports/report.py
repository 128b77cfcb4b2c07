"""Results as files: JSON, tables as text, CSV and LaTeX, pictures, and one page with all of them."""

import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.evaluation.protocols import Curves, Evaluation, Results
from fpsset.evaluation.resampling import limit_name
from fpsset.evaluation.strata import SIZES, VIDEO_SHARES
from fpsset.evaluation.verification import FARS, far_name
from fpsset.reports.comparison import COMPARED, DRAWS, Run, write_draws
from fpsset.reports.forms import as_csv, as_latex, as_text
from fpsset.reports.pages import Picture, drawn, write_page
from fpsset.reports.plots import draw_bins, draw_cmc, draw_det, draw_discard, draw_roc
from fpsset.reports.tables import Section, accepted_impostors, deciding_impostors, sections
from fpsset.runtime.files import replacing, write_json

_FORMS = {"txt": as_text, "csv": as_csv, "tex": as_latex}
_TABLES = ("verification", "paired", "identification", "quality")
_FEW = 100  # deciding impostors; with fewer a FAR's interval is a matter of a few people


class Provenance(NamedTuple):
    """Where results come from."""

    title: str  # what was evaluated
    config: dict[str, str]  # field -> value, all of them
    versions: dict[str, str]  # of what made the results


def write_report(workdir: pathlib.Path, evaluation: Evaluation, provenance: Provenance) -> str:
    """Writes results.json, and in report/ the page, each table in three forms, pictures and draws.npz.

    Args:
      workdir: where to.
      evaluation: what was found.
      provenance: of it.

    Returns:
      The tables as text.
    """
    results, report = evaluation.results, workdir / "report"
    made = sections(results, provenance.title)
    for name in _TABLES:
        for suffix in _FORMS:  # an earlier evaluation's would not belong to these results
            (report / f"{name}.{suffix}").unlink(missing_ok=True)
    write_tables(report, made)
    pictures = _draw_all(report, results, evaluation.curves, provenance.title)
    facts = provenance.versions | {
        f"fingerprint of the {name}": value or "not known" for name, value in evaluation.fingerprints.items()
    }
    write_page(
        report / "index.html", provenance.title, _summary(results), made, pictures, facts, provenance.config
    )
    with replacing(report / DRAWS) as beside:
        write_draws(beside, as_run(str(workdir), provenance.title, evaluation))
    write_json(workdir / "results.json", results)
    return "\n".join(map(as_text, made))


def write_tables(folder: pathlib.Path, made: list[Section]) -> None:
    """Writes each section as .txt, .csv and .tex."""
    for section in made:
        for suffix, form in _FORMS.items():
            with replacing(folder / f"{section.name}.{suffix}") as beside:
                beside.write_text(form(section))


def as_run(name: str, title: str, evaluation: Evaluation) -> Run:
    """What comparisons need of an evaluation: no thresholds, which say nothing about another method's."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for method, figures in evaluation.draws.items():
        for figure, values in figures.items():
            kind = (
                "verification" if figure in evaluation.results["verification"][method] else "identification"
            )
            value = evaluation.results[kind][method][figure]
            if value is not None and "threshold" not in figure:
                found.setdefault(method, {})[figure] = np.append(value, values)
    curves = {
        kind: {method: np.stack(points) for method, points in evaluation.curves[kind].items()}
        for kind in COMPARED
        if kind in evaluation.curves
    }
    return Run(name, {"title": title, **evaluation.fingerprints}, found, curves)


def _summary(results: Results) -> list[str]:
    """What the page says first: the model beside the best plain pooling, and how far to trust low FARs."""
    methods = results["verification"]
    ours = methods["fpsset"]
    lines = []
    far = next(
        (far for far in (1e-4, 1e-3, 1e-2, 1e-1) if ours[f"tar@far={far_name(far)}"] is not None), None
    )
    if far:
        name = f"tar@far={far_name(far)}"
        best = max((m for m in methods if m != "fpsset"), key=lambda m: methods[m][name])
        line = (
            f"At FAR {far_name(far)} fpsset accepts {_with_interval(ours, name)} of the genuine pairs; "
            f"{best}, the best of the others, {_with_interval(methods[best], name)}."
        )
        paired = results.get("paired", {}).get(f"fpsset - {best}", {})
        if limit_name(name, "low") in paired:
            ends = [paired[limit_name(name, end)] for end in ("low", "high")]
            verdict = "holds" if ends[0] <= 0 <= ends[1] else "does not hold"
            line += (
                f" The difference is {paired[name]:+.4f} ({ends[0]:+.4f} to {ends[1]:+.4f}): its interval "
                f"{verdict} zero."
            )
        lines.append(line)
    enough = [far for far in FARS if far * ours["impostor_pairs"] + 1e-6 >= 1]
    few = [
        f"the {count} highest at FAR {far_name(far)} ({accepted_impostors(ours, far)} accepted)"
        for far in enough
        if (count := deciding_impostors(ours, far)) < _FEW
    ]
    if few:
        lines.append(
            f"Few of the {ours['impostor_pairs']:,} impostor pairs decide the low FARs: {', '.join(few)}. A "
            "handful of look-alikes or of wrong labels moves these figures; read them with their intervals."
        )
    unknown = [far_name(far) for far in FARS if far not in enough]
    if unknown:
        lines.append(f"There are too few impostor pairs for FAR {', '.join(unknown)}.")
    return lines


def _with_interval(metrics: dict, name: str) -> str:
    low, high = (metrics.get(limit_name(name, end)) for end in ("low", "high"))
    return f"{metrics[name]:.4f}" + ("" if low is None else f" ({low:.4f} to {high:.4f})")


def _draw_all(report: pathlib.Path, results: Results, curves: Curves, title: str) -> list[Picture]:
    """Draws what there is to draw, and removes what an earlier evaluation drew."""
    counts = next(iter(results["verification"].values()))
    pairs = f"{title}\n{counts['genuine_pairs']} genuine, {counts['impostor_pairs']} impostor pairs"
    pictures = []

    def add(name: str, *picture) -> None:
        pictures.append(drawn(report / f"{name}.png", *picture))

    for name in ("cmc", "discard_input_norm", "discard_output_norm", "size", "video"):
        (report / f"{name}.png").unlink(missing_ok=True)
    add(
        "roc",
        "verification",
        "ROC: true accept rate along false accept rate.",
        draw_roc,
        curves["roc"],
        pairs,
    )
    deviates = "DET: both errors on normal deviates."
    add("det", "verification", deviates, draw_det, curves["roc"], pairs)
    if "cmc" in curves:
        probes = next(iter(results["identification"].values()))["mated_probes"]
        merged = f"{title}\n{probes} mated probes, galleries merged"
        caption = "CMC: share of mated probes found at each rank or better."
        add("cmc", "identification", caption, draw_cmc, curves["cmc"], merged)
    if "quality" not in results:
        return pictures
    first = next(iter(results["quality"].values()))
    at = f"{title}\nthreshold of FAR {first['far']}"
    for kind, words in (("input_norm", "mean input norm"), ("output_norm", "output norm")):
        caption = f"Error versus discard by {words}: a norm that tells quality makes the line fall."
        add(f"discard_{kind}", "quality", caption, draw_discard, curves[kind], at, words)
    for kind, bins, label in (
        ("size", SIZES, "faces of the smaller template"),
        ("video", VIDEO_SHARES, "share of video frames among a pair's faces"),
    ):
        values = {
            method: tuple(
                np.array([_number(metrics.get(f"{figure}@{kind}={name}")) for name in bins])
                for figure in ("tar", "tar_low", "tar_high")
            )
            for method, metrics in results["quality"].items()
        }
        many = {name: first[f"genuine_pairs@{kind}={name}"] for name in bins}
        caption = f"True accept rate by the {label}."
        add(kind, "quality", caption, draw_bins, values, many, at, label)
    return pictures


def _number(value: float | None) -> float:
    return np.nan if value is None else value
