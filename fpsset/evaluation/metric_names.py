"""Names of figures in results.json, tables and logs, such as tar@far=1e-3; all of them are made here."""

import math

from fpsset.evaluation.resampling import Estimate
from fpsset.evaluation.results import ErrorsByStratum, Evaluation, Identification, Verification

Number = float | int | str | None
Figure = Estimate | Number
_TAR = "tar@far="


def far_name(far: float) -> str:
    """1e-3 for 0.001, a FAR or an FPIR."""
    return f"1e-{round(-math.log10(far))}"


def tar_name(far: float) -> str:
    """tar@far=1e-3 for a FAR of 0.001."""
    return f"{_TAR}{far_name(far)}"


def far_of(name: str) -> float:
    """The FAR in the name of a TAR."""
    return float(name.removeprefix(_TAR))


def limit_names(name: str) -> tuple[str, str]:
    """The names of an interval's ends: tar_low@far=1e-3 and tar_high@far=1e-3 of tar@far=1e-3."""
    figure, at, where = name.partition("@")
    return f"{figure}_low{at}{where}", f"{figure}_high{at}{where}"


def verification_figures(found: Verification) -> dict[str, Figure]:
    """Name -> figure."""
    figures = found._asdict()
    for far, point in figures.pop("points").items():
        for figure in ("tar", "achieved_far", "threshold"):
            figures[f"{figure}@far={far_name(far)}"] = getattr(point, figure)
    return figures


def identification_figures(found: Identification) -> dict[str, Figure]:
    """Name -> figure."""
    figures = {"probes": found.probes, "mated_probes": found.mated_probes, "gallery": found.gallery}
    figures |= open_and_closed_set(found)
    for fpir, point in found.merged.items():
        for figure, value in point._asdict().items():
            figures[f"merged_{figure}@fpir={far_name(fpir)}"] = value
    return figures


def open_and_closed_set(found: Identification) -> dict[str, Estimate]:
    """Name -> figure: ranks, and TPIRs with each gallery on its own."""
    ranks = {f"rank@{rank}": share for rank, share in found.ranks.items()}
    return ranks | {f"tpir@fpir={far_name(fpir)}": tpir for fpir, tpir in found.tpir.items()}


def merged_tpirs(found: Identification) -> dict[str, Estimate]:
    """Name -> figure: TPIRs with the galleries merged."""
    return {f"merged_tpir@fpir={far_name(fpir)}": point.tpir for fpir, point in found.merged.items()}


def strata_figures(found: ErrorsByStratum) -> dict[str, Figure]:
    """Name -> figure."""
    figures: dict[str, Figure] = {"far": far_name(found.far)}
    for figure, count, bins, where in (
        ("frr_by_input_norm", "genuine_pairs_by_input_norm", found.frr_by_input_norm, "discard={:g}"),
        ("frr_by_output_norm", "genuine_pairs_by_output_norm", found.frr_by_output_norm, "discard={:g}"),
        ("tar", "genuine_pairs", found.tar_by_size, "size={}"),
        ("tar", "genuine_pairs", found.tar_by_video, "video={}"),
    ):
        for key, stratum in bins.items():
            figures[f"{figure}@{where.format(key)}"] = stratum.rate
            figures[f"{count}@{where.format(key)}"] = stratum.genuine_pairs
    return figures


def comparable_figures(
    verification: Verification, identification: Identification | None
) -> dict[str, Estimate]:
    """Name -> figure, without thresholds: one method's say nothing about another's."""
    figures = {tar_name(far): point.tar for far, point in verification.points.items()}
    figures |= {"eer": verification.eer, "auc": verification.auc}
    if identification:
        figures |= open_and_closed_set(identification) | merged_tpirs(identification)
    return figures


def resampling_facts(found: Evaluation) -> dict[str, int]:
    """How many draws of the subjects there are, and their seed; empty without draws."""
    return {"resamples": found.resamples, "resampling_seed": found.seed} if found.resamples else {}


def to_json(found: Evaluation) -> dict[str, dict[str, dict[str, Number]]]:
    """The content of results.json: {'verification', ...: {method: {name: number}}}."""
    results: dict[str, dict[str, dict[str, Number]]] = {"verification": {}}
    for method, verified in found.verification.items():
        figures = verification_figures(verified)
        kinds = ("tar@", "threshold@", "eer", "auc")  # the order of the intervals in the file
        ordered = [name for kind in kinds for name in figures if name.startswith(kind)]
        results["verification"][method] = flatten(figures, ordered) | resampling_facts(found)
    for kind, methods in (
        ("identification", {m: identification_figures(f) for m, f in found.identification.items()}),
        ("quality", {m: strata_figures(f) for m, f in found.strata.items()}),
    ):
        if methods:
            results[kind] = {method: flatten(figures) for method, figures in methods.items()}
    if found.paired:
        results["paired"] = {
            pair: {name: x for figure in differences.items() for name, x in flatten(dict([figure])).items()}
            for pair, differences in found.paired.items()
        }
    return results


def flatten(figures: dict[str, Figure], ordered: list[str] | None = None) -> dict[str, Number]:
    """Name -> number: the values, then the ends of their intervals.

    Args:
      figures: name -> figure.
      ordered: names of the figures whose intervals to give; all of them when None.
    """
    numbers = {name: f.value if isinstance(f, Estimate) else f for name, f in figures.items()}
    for name in figures if ordered is None else ordered:
        if isinstance(figures[name], Estimate) and figures[name].interval:
            numbers |= zip(limit_names(name), figures[name].interval, strict=True)
    return numbers
