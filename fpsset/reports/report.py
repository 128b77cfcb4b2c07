"""Writes an evaluation: results.json, tables as text, CSV and LaTeX, pictures, and a page with all this."""

import pathlib
from typing import NamedTuple

from fpsset.evaluation.metric_names import far_name, to_json
from fpsset.evaluation.results import Evaluation
from fpsset.evaluation.verification import FARS
from fpsset.reports.draws_file import DRAWS, as_run, write_draws
from fpsset.reports.folders import replacing_report
from fpsset.reports.forms import write_tables
from fpsset.reports.learning import draw_learning, read_learning
from fpsset.reports.outcome import OURS, verdict
from fpsset.reports.pages import write_page
from fpsset.reports.pictures import Picture, draw_curves, make_picture
from fpsset.reports.plots import draw_bins, draw_discard
from fpsset.reports.tables import Section, sections
from fpsset.runtime.files import write_json

_FEW = 100  # deciding impostor pairs; below this, a TAR hinges on a few people


class Provenance(NamedTuple):
    """Where results come from."""

    title: str  # what was evaluated
    config: dict[str, str]  # field -> value
    versions: dict[str, str]  # package -> version


def write_report(workdir: pathlib.Path, found: Evaluation, provenance: Provenance) -> list[Section]:
    """Writes results.json, and in report/ the page, each table in three forms, pictures and draws.npz.

    The report replaces an earlier one as a whole. If it cannot be written, e.g. on a full disk, the earlier
    one stays, and results.json holds the new figures.

    Args:
      workdir: to write to.
      found: the evaluation.
      provenance: of the evaluation.

    Returns:
      The tables.
    """
    title = provenance.title
    made = sections(found, title)
    write_json(workdir / "results.json", to_json(found))
    facts = provenance.versions | {
        f"fingerprint of the {name}": value or "not known" for name, value in found.fingerprints.items()
    }
    with replacing_report(workdir / "report", "results.json is written") as report:
        write_tables(report, made)
        write_draws(report / DRAWS, as_run(str(workdir), title, found))
        pictures = _draw_learning(report, workdir, title) + _draw_all(report, found, title)
        write_page(report / "index.html", title, _summary(found), made, pictures, facts, provenance.config)
    return made


def _summary(found: Evaluation) -> list[str]:
    """Opening paragraphs: the verdict, and how far to trust low FARs."""
    ours = found.verification[OURS]
    lines = [verdict(found)]
    enough = [far for far in FARS if far * ours.impostor_pairs + 1e-6 >= 1]
    few = [
        f"the {count} highest at FAR {far_name(far)} ({ours.accepted_impostors(far)} accepted)"
        for far in enough
        if (count := ours.deciding_impostors(far)) < _FEW
    ]
    if few:
        lines.append(
            f"Few of the {ours.impostor_pairs:,} impostor pairs decide the low FARs: {', '.join(few)}. A "
            "handful of look-alikes or wrong labels can move these figures; read them with their intervals."
        )
    unknown = [far_name(far) for far in FARS if far not in enough]
    if unknown:
        lines.append(f"There are too few impostor pairs for FAR {', '.join(unknown)}.")
    return lines


def _draw_learning(report: pathlib.Path, workdir: pathlib.Path, title: str) -> list[Picture]:
    """Draws how the model was trained, if it was trained in this workdir."""
    learning = read_learning(workdir)
    if learning is None:
        return []
    caption = "Training: the loss, as logged and smoothed, and the score on held-out people."
    return [make_picture(report / "learning.png", "learning", caption, draw_learning, learning, title)]


def _draw_all(report: pathlib.Path, found: Evaluation, title: str) -> list[Picture]:
    """Draws the pictures that the results allow."""
    verified = next(iter(found.verification.values()))
    pairs = f"{title}\n{verified.genuine_pairs} genuine, {verified.impostor_pairs} impostor pairs"
    places = {"roc": ("verification", pairs)}
    if found.identification:
        probes = next(iter(found.identification.values())).mated_probes
        places["cmc"] = "identification", f"{title}\n{probes} mated probes, galleries merged"
        places["dir"] = "identification", f"{title}\n{probes} mated probes, mean over galleries"
    pictures = draw_curves(report, found.curves, places)
    if not found.strata:
        return pictures

    at = f"{title}\nthreshold of FAR {far_name(next(iter(found.strata.values())).far)}"
    for kind, words in (("input_norm", "mean input norm"), ("output_norm", "output norm")):
        caption = f"Error versus discard by {words}: the line falls if the norm predicts errors."
        path = report / f"discard_{kind}.png"
        curves = found.curves[kind]
        pictures.append(make_picture(path, "quality", caption, draw_discard, curves, at, words))
    for kind, label in (
        ("size", "faces of the smaller template"),
        ("video", "share of video frames among a pair's faces"),
    ):
        bins = {method: getattr(errors, f"tar_by_{kind}") for method, errors in found.strata.items()}
        caption = f"True accept rate by the {label}."
        pictures.append(make_picture(report / f"{kind}.png", "quality", caption, draw_bins, bins, at, label))
    return pictures
