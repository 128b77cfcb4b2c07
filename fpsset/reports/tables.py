"""Tables of results, as figures and words; `forms` writes them."""

from typing import NamedTuple

from fpsset.evaluation.resampling import Metrics, limit_name
from fpsset.evaluation.verification import FARS, far_name

_COLUMNS = 6  # of a table, so that intervals fit on a terminal
INTERVALS = "; 95% intervals by resampling subjects"


class Cell(NamedTuple):
    """A figure and its interval, as printed; what is not known is empty."""

    value: str
    interval: str = ""


class Table(NamedTuple):
    """A heading over each column, a label before each row."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    foot: list[tuple[str, list[Cell]]] = []  # noqa: RUF012, never changed


class Section(NamedTuple):
    """Tables about one kind of figure, and what to know about them."""

    name: str  # of the files
    title: str  # what was evaluated
    tables: list[Table]
    note: str
    figures: dict[str, Metrics]  # what the tables were made of


def sections(results: dict[str, dict[str, Metrics]], title: str) -> list[Section]:
    """All tables of an evaluation.

    Args:
      results: as `evaluate` gives them.
      title: what was evaluated.
    """
    makers = {
        "verification": _verification,
        "paired": _paired,
        "identification": _identification,
        "quality": _quality,
    }
    return [make(results[name], title) for name, make in makers.items() if name in results]


def _verification(results: dict[str, Metrics], title: str) -> Section:
    """TAR by method and FAR, EER and area under the curve; the FARs achieved, and how many pairs decide."""
    any_method = next(iter(results.values()))
    names = [f"tar@far={far_name(far)}" for far in FARS]
    (table,) = tables("TAR at FAR", names, results, "tar@far=")
    achieved, accepted = [], []
    for far in FARS:
        values = [metrics[f"achieved_far@far={far_name(far)}"] for metrics in results.values()]
        if None in values:
            achieved.append(Cell("not enough", "impostors"))
            accepted.append(Cell(""))
        else:
            counts = [accepted_impostors(metrics, far) for metrics in results.values()]
            achieved.append(_span(f"{min(values):.2e}", f"{max(values):.2e}"))
            accepted.append(_span(str(min(counts)), str(max(counts))))
    table = table._replace(foot=[("achieved FAR", achieved), ("impostors accepted", accepted)])
    how, which = "the ROC's vertex nearest to the target, as InsightFace's code reads it", "last of them"
    if any_method["convention"] == "conservative":
        how, which = "largest accepted set with FAR <= target", "first one refused"
    note = (
        f"{any_method['subjects']} subjects, {any_method['templates']} templates, "
        f"{any_method['genuine_pairs']} genuine and {any_method['impostor_pairs']} impostor pairs; {how}; "
        f"impostors accepted: how many impostor pairs pass; the score of the {which} is the threshold"
    )
    if "resamples" in any_method:
        note += f"{INTERVALS} ({any_method['resamples']} draws, seed {any_method['resampling_seed']})"
    whole = tables("Whole curves", ["eer", "auc"], results)
    return Section("verification", title, [table, *whole], note, results)


def _identification(results: dict[str, Metrics], title: str) -> Section:
    """Ranks, TPIR at FPIR and the merged-gallery figures by method."""
    any_method = next(iter(results.values()))
    found = []
    for heading, kinds in (
        ("Closed and open set", ("rank@", "tpir@")),
        ("As older code has it, no open set", ("merged_tpir@",)),
    ):
        names = [name for name in any_method if name.startswith(kinds)]
        found += tables(heading, names, results)
    note = (
        f"{any_method['probes']} probes, {any_method['mated_probes']} with a mate, {any_method['gallery']} "
        "gallery templates; tpir: each gallery apart, probes without a mate in it set the threshold, mean "
        "over galleries ('-': too few of them); rank and merged_tpir: galleries merged"
        + INTERVALS
        * ("rank_low@1" in any_method)
    )
    return Section("identification", title, found, note, results)


def _paired(results: dict[str, Metrics], title: str) -> Section:
    """Differences of figures between the model and each other method."""
    note = "on the same draws of the subjects: an interval that holds no zero is a difference" + INTERVALS
    return Section("paired", title, tables("Differences", figure_names(results), results), note, results)


def _quality(results: dict[str, Metrics], title: str) -> Section:
    """FRR where poor templates are discarded, TAR by template size and share of video frames."""
    any_method = next(iter(results.values()))
    found = []
    kinds = {
        "frr_by_input_norm@discard=": "FRR, templates of the lowest mean input norm discarded",
        "frr_by_output_norm@discard=": "FRR, templates of the lowest output norm discarded",
        "tar@size=": "TAR by the faces of a pair's smaller template",
        "tar@video=": "TAR by the share of video frames among a pair's faces",
    }
    for prefix, what in kinds.items():
        names = [name for name in any_method if name.startswith(prefix)]
        for table in tables(what, names, results, prefix):
            counts = [f"genuine_pairs@{prefix.partition('@')[2]}{column}" for column in table.columns]
            if counts[0] in any_method:
                cells = [Cell(f"{any_method[name]}") for name in counts]
                table = table._replace(foot=[("genuine pairs", cells)])
            else:
                table = table._replace(columns=[f"{float(column):.0%}" for column in table.columns])
            found.append(table)
    note = (
        f"all at each method's threshold of FAR {any_method['far']} over all pairs; a share of templates is "
        "discarded, and a pair goes with either of its templates; input norm: mean over a template's faces; "
        "video frames: faces of a medium with more than one in the template"
    )
    if any("_low@" in name for name in any_method):
        note += INTERVALS + ", the threshold kept"
    return Section("quality", title, found, note, results)


def accepted_impostors(metrics: Metrics, far: float) -> int:
    """How many impostor pairs a method accepts at a FAR target that it answers."""
    return round(metrics[f"achieved_far@far={far_name(far)}"] * metrics["impostor_pairs"])


def deciding_impostors(metrics: Metrics, far: float) -> int:
    """How many of the highest impostor scores a figure at a FAR target depends on.

    FAR 1e-6 of IJB-C's 15,638,932 impostor pairs is 15.6 of them. Conservatively 15 are accepted, since 16
    would exceed the target, and the sixteenth sets the threshold. The vertex nearest to it, where the ROC has
    that one, accepts 16. So 16 decide either way, the number that is usually given.
    """
    return accepted_impostors(metrics, far) + (metrics["convention"] == "conservative")


def tables(title: str, names: list[str], results: dict[str, Metrics], prefix: str = "") -> list[Table]:
    """A row a method, a column a figure with its interval, some at a time; headings without `prefix`."""
    found = []
    for start in range(0, len(names), _COLUMNS):
        some = names[start : start + _COLUMNS]
        rows = [(method, [_cell(metrics, name) for name in some]) for method, metrics in results.items()]
        found.append(Table(title, [name.removeprefix(prefix) for name in some], rows))
    return found


def figure_names(results: dict[str, Metrics]) -> list[str]:
    """Names of the figures of the first, without those of intervals' ends."""
    names = list(next(iter(results.values())))
    limits = {limit_name(name, end) for name in names for end in ("low", "high")}
    return [name for name in names if name not in limits]


def _span(low: str, high: str) -> Cell:
    """The least and the greatest of several methods."""
    return Cell(low, high * (low != high))


def _cell(metrics: Metrics, name: str) -> Cell:
    value = metrics.get(name)
    if value is None:
        return Cell("-")
    low, high = (metrics.get(limit_name(name, end)) for end in ("low", "high"))
    return Cell(f"{value:z.4f}", "" if low is None else f"{low:z.3f}..{high:z.3f}")
