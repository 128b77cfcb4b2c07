"""Tables of results as text cells; `forms` writes them to files."""

from collections.abc import Callable
from typing import NamedTuple

from fpsset.evaluation.metric_names import (
    Figure,
    far_name,
    identification_figures,
    merged_tpirs,
    open_and_closed_set,
    resampling_facts,
    strata_figures,
    verification_figures,
)
from fpsset.evaluation.resampling import Estimate
from fpsset.evaluation.results import Evaluation, Stratum

_COLUMNS = 6  # per table, so that intervals fit on a terminal
INTERVALS = "; 95% intervals by resampling subjects"


class Cell(NamedTuple):
    """A figure and its interval as text, empty if not known."""

    value: str
    interval: str = ""


class Table(NamedTuple):
    """A heading per column, a label per row."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    foot: list[tuple[str, list[Cell]]] = []  # noqa: RUF012, never changed
    compared: bool = True  # whether the rows are alternatives, of which some are the best

    def best_of(self, label: str) -> set[int]:
        """The columns in which a row has the best figure, as shown: the lowest error or the highest share."""
        if not self.compared or len(self.rows) < 2:
            return set()
        found = set()
        for column, name in enumerate(self.columns):
            shown = {row: cells[column].value for row, cells in self.rows if cells[column].value != "-"}
            best = min if name == "eer" or self.title.startswith("FRR") else max
            if shown and shown.get(label) == best(shown.values(), key=float):
                found.add(column)
        return found


class Section(NamedTuple):
    """Tables about one kind of figure, and a note on how to read them."""

    name: str  # of the files
    title: str  # what was evaluated
    tables: list[Table]
    note: str
    figures: dict[str, dict[str, Figure]]  # method -> name -> figure, those of the tables and more


def sections(found: Evaluation, title: str) -> list[Section]:
    """All tables of an evaluation; `title` says what was evaluated."""
    made = [_verification(found, title)]
    if found.paired:
        note = "on the same draws of the subjects: a difference is significant if its interval excludes zero"
        note += INTERVALS
        made.append(
            Section("paired", title, tables("Differences", found.paired, compared=False), note, found.paired)
        )
    if found.identification:
        made.append(_identification(found, title))
    if found.strata:
        made.append(_strata(found, title))
    return made


def _verification(found: Evaluation, title: str) -> Section:
    """TAR by method and FAR, with the FARs achieved and impostors accepted; EER and area under the curve."""
    methods = found.verification
    any_method = next(iter(methods.values()))
    tars = {m: {far_name(far): point.tar for far, point in v.points.items()} for m, v in methods.items()}
    (table,) = tables("TAR at FAR", tars)
    achieved, accepted = [], []
    for far in any_method.points:
        fars = [verified.points[far].achieved_far for verified in methods.values()]
        if None in fars:
            achieved.append(Cell("not enough", "impostors"))
            accepted.append(Cell(""))
        else:
            counts = [verified.accepted_impostors(far) for verified in methods.values()]
            achieved.append(_span(f"{min(fars):.2e}", f"{max(fars):.2e}"))
            accepted.append(_span(str(min(counts)), str(max(counts))))
    table = table._replace(foot=[("achieved FAR", achieved), ("impostors accepted", accepted)])
    how = "TAR at the ROC vertex nearest to the target FAR, as in InsightFace's code"
    if any_method.convention == "conservative":
        how = "TAR at the lowest threshold with FAR <= target"
    note = (
        f"{any_method.subjects} subjects, {any_method.templates} templates, "
        f"{any_method.genuine_pairs} genuine and {any_method.impostor_pairs} impostor pairs; {how}; "
        "impostors accepted: impostor pairs above the threshold"
    )
    if found.resamples:
        note += f"{INTERVALS} ({found.resamples} draws, seed {found.seed})"
    whole = tables("Whole curves", {m: {"eer": v.eer, "auc": v.auc} for m, v in methods.items()})
    figures = {m: verification_figures(v) | resampling_facts(found) for m, v in methods.items()}
    return Section("verification", title, [table, *whole], note, figures)


def _identification(found: Evaluation, title: str) -> Section:
    """Ranks, TPIR at FPIR and the figures of merged galleries by method."""
    methods = found.identification
    any_method = next(iter(methods.values()))
    made = [
        *tables("Closed and open set", {m: open_and_closed_set(i) for m, i in methods.items()}),
        *tables(
            "Galleries merged, as in InsightFace's code; not an open-set figure",
            {m: merged_tpirs(i) for m, i in methods.items()},
        ),
    ]
    note = (
        f"{any_method.probes} probes, {any_method.mated_probes} with a mate, {any_method.gallery} "
        "gallery templates; tpir: mean over galleries, in each of which the probes without a mate set the "
        "threshold ('-': too few of them); rank and merged_tpir: galleries merged"
    )
    if any_method.ranks[1].interval:
        note += INTERVALS
    figures = {m: identification_figures(i) for m, i in methods.items()}
    return Section("identification", title, made, note, figures)


def _strata(found: Evaluation, title: str) -> Section:
    """FRR with low norms discarded, TAR by template size and share of video frames."""
    methods = found.strata
    any_method = next(iter(methods.values()))
    made = []
    for which, what in (
        ("frr_by_input_norm", "FRR, templates with the lowest mean input norm discarded"),
        ("frr_by_output_norm", "FRR, templates with the lowest output norm discarded"),
        ("tar_by_size", "TAR by the number of faces in a pair's smaller template"),
        ("tar_by_video", "TAR by the share of video frames among a pair's faces"),
    ):
        bins: dict[str, dict] = {method: getattr(errors, which) for method, errors in methods.items()}
        heading: Callable = "{:.0%}".format if which.startswith("frr") else str
        rates = {m: {heading(key): s.rate for key, s in strata.items()} for m, strata in bins.items()}
        (table,) = tables(what, rates)
        if which.startswith("tar"):
            strata: list[Stratum] = list(getattr(any_method, which).values())
            table = table._replace(foot=[("genuine pairs", [Cell(f"{s.genuine_pairs}") for s in strata])])
        made.append(table)
    note = (
        f"each method at its threshold for FAR {far_name(any_method.far)} over all pairs; discarding a "
        "template discards its pairs; input norm: mean over a template's faces; video frames: faces of a "
        "medium that has several in the template"
    )
    if found.resamples:
        note += INTERVALS + ", with the threshold fixed"
    figures = {m: strata_figures(errors) for m, errors in methods.items()}
    return Section("quality", title, made, note, figures)


def tables(title: str, methods: dict[str, dict[str, Estimate]], compared: bool = True) -> list[Table]:
    """A row per method and a column per figure, at most `_COLUMNS` a table; see `Table.compared`."""
    names = list(next(iter(methods.values())))
    made = []
    for start in range(0, len(names), _COLUMNS):
        columns = names[start : start + _COLUMNS]
        rows = [(method, [_cell(figures.get(c)) for c in columns]) for method, figures in methods.items()]
        made.append(Table(title, columns, rows, compared=compared))
    return made


def _span(low: str, high: str) -> Cell:
    """The range over several methods."""
    return Cell(low, high * (low != high))


def _cell(figure: Estimate | None) -> Cell:
    if figure is None or figure.value is None:
        return Cell("-")
    ends = figure.interval
    return Cell(f"{figure.value:z.4f}", f"{ends.low:z.3f}..{ends.high:z.3f}" if ends else "")
