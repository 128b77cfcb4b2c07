"""fpsset people search, verify and calibrate."""

import json
import pathlib

import click
import numpy as np

from fpsset.commands.options import PATH, PATH_TEXT, backbone_options, json_option
from fpsset.runtime.escapes import show

_MODEL = click.option("--model", type=PATH_TEXT, help="Where the store's model is now.  [default: as before]")
_UNCALIBRATED = "fpsset people STORE calibrate LABELLED finds thresholds"


@click.command()
@click.argument("source", metavar="FEATURES", type=PATH)
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="People per set.")
@click.option("--fpir", type=float, help="FPIR of the decision, if several are calibrated.")
@click.option("--index", type=PATH, help="An exported faiss index, to search approximately by.")
@_MODEL
@backbone_options
@json_option
@click.pass_obj
def search(
    store: pathlib.Path,
    source: pathlib.Path,
    top: int,
    fpir: float | None,
    index: pathlib.Path | None,
    model: str | None,
    as_json: bool,
    **backbone,
) -> None:
    """Search the store for the people in FEATURES: the best few of each set.

    Sets are the templates of a feature file, or else its subjects. After calibrate
    each person found is also said to be the 'same person', 'different', or that the
    data cannot tell at the claimed FPIR.
    """
    from fpsset.commands.people_inputs import model_of
    from fpsset.commands.people_probes import read_probes
    from fpsset.people.decisions import FPIR
    from fpsset.people.gallery import read_gallery
    from fpsset.people.people import People
    from fpsset.people.search import ExactSearch
    from fpsset.people.store import open_store
    from fpsset.people.thresholds import read_decider

    with open_store(store) as opened:
        people = People(opened, model_of(opened, model))
        probes = read_probes(people, source, backbone)
        decider = read_decider(opened, "fpir", fpir)
        gallery = read_gallery(opened)
    if index:
        from fpsset.people.approximate import ApproximateSearch

        found = ApproximateSearch(gallery, index)(probes.vectors, top)
    else:
        found = ExactSearch(gallery)(probes.vectors, top)
    rows = []
    for place, name in enumerate(probes.names):
        best = [
            (str(gallery.names[p]), float(s))
            for p, s in zip(found.people[place], found.scores[place], strict=True)
            if p >= 0
        ]
        threshold = decider and decider.threshold(int(probes.sizes[place]), float(probes.quality[place]))
        answers = [threshold.answer(score, FPIR) if threshold else None for _, score in best]
        rows.append((name, best, answers))
    if as_json:
        named = [
            {
                "set": name,
                "found": [
                    {"name": who, "score": score, "answer": answer}
                    for (who, score), answer in zip(best, answers, strict=True)
                ],
            }
            for name, best, answers in rows
        ]
        click.echo(json.dumps(named))
        return
    for name, best, answers in rows:
        show(f"{name}:")
        for (who, score), answer in zip(best, answers, strict=True):
            show(f"  {score:.4f}  {who}" + (f"  {answer}" if answer else ""))
    if decider is None:
        show(f"no decision: {_UNCALIBRATED}", err=True)
    elif decider.people != len(gallery.names):
        show(_changed(decider.people, len(gallery.names)), err=True)


@click.command()
@click.argument("name", metavar="NAME")
@click.argument("source", metavar="FEATURES", type=PATH)
@click.option("--far", type=float, help="FAR of the decision, if several are calibrated.")
@_MODEL
@backbone_options
@json_option
@click.pass_obj
def verify(
    store: pathlib.Path,
    name: str,
    source: pathlib.Path,
    far: float | None,
    model: str | None,
    as_json: bool,
    **backbone,
) -> None:
    """Decide whether the faces in FEATURES are a person in the store.

    Prints the score, and after calibrate one of 'same person', 'different' and
    'cannot tell at this FAR'. The exit code is 0 for any of them.
    """
    from fpsset.commands.people_inputs import model_of
    from fpsset.commands.people_probes import read_probes
    from fpsset.people.gallery import read_gallery
    from fpsset.people.people import People, checked_name
    from fpsset.people.search import scores_of
    from fpsset.people.store import open_store
    from fpsset.people.thresholds import read_decider

    with open_store(store) as opened:
        people = People(opened, model_of(opened, model))
        people.number(name)
        probes = read_probes(people, source, backbone)
        decider = read_decider(opened, "far", far)
        gallery = read_gallery(opened)
    who = int(np.searchsorted(gallery.names, checked_name(name)))
    scores = scores_of(probes.vectors, gallery, np.full(len(probes.names), who)).tolist()
    rows = []
    for place, score in enumerate(scores):
        threshold = decider and decider.threshold(int(probes.sizes[place]), float(probes.quality[place]))
        rows.append((probes.names[place], score, threshold))
    if as_json:
        held = [
            {
                "set": label,
                "score": score,
                "answer": threshold.answer(score) if threshold else None,
                "threshold": threshold._asdict() if threshold else None,
            }
            for label, score, threshold in rows
        ]
        click.echo(json.dumps(held))
        return
    for label, score, threshold in rows:
        said = f"{label}: " if len(rows) > 1 else ""
        if threshold is None:
            show(f"{said}score {score:.4f}; no decision: {_UNCALIBRATED}")
            continue
        show(
            f"{said}score {score:.4f}: {threshold.answer(score)}; threshold {threshold.same:.4f} for a FAR "
            f"of {threshold.rate:g} ({threshold.impostors} comparisons with others)"
        )


@click.command()
@click.argument("source", metavar="LABELLED", type=PATH)
@click.option("--far", default=1e-3, show_default=True, help="Claimed false accept rate, for verify.")
@click.option("--fpir", default=1e-2, show_default=True, help="Claimed false positive rate, for search.")
@click.option(
    "--by", type=click.Choice(["quality", "size"]), help="A threshold for each stratum that needs it."
)
@click.option("--plot", type=PATH, help="Picture of TPIR against FPIR to write.")
@_MODEL
@backbone_options
@click.pass_obj
def calibrate(
    store: pathlib.Path,
    source: pathlib.Path,
    far: float,
    fpir: float,
    by: str | None,
    plot: pathlib.Path | None,
    model: str | None,
    **backbone,
) -> None:
    """Find thresholds for this gallery on labelled faces, for verify and search.

    LABELLED holds faces of people in the store, by the same names, and of others;
    faces that are enrolled are left out. Prints the false accept rate achieved in
    strata of size and quality, with exact binomial bounds.
    """
    from fpsset.commands.people_inputs import model_of
    from fpsset.commands.people_probes import read_probes
    from fpsset.errors import InputError
    from fpsset.people import decisions
    from fpsset.people.gallery import read_gallery
    from fpsset.people.people import People
    from fpsset.people.store import open_store
    from fpsset.people.thresholds import write_decider
    from fpsset.people.trials import run_trials

    for option, rate in (("far", far), ("fpir", fpir)):
        if not 0 < rate < 1:
            raise InputError(f"--{option} is {rate:g}; it must be between 0 and 1")
    with open_store(store) as opened:
        people = People(opened, model_of(opened, model))
        probes = read_probes(people, source, backbone, labelled=True)
        gallery = read_gallery(opened)
    count = len(gallery.names)
    edges, groups = decisions.strata_of(probes, by or "quality")
    trials = run_trials(gallery, probes, far, groups)
    verifies = decisions.decide(trials, far, count, by or "", edges if by else (), groups)
    searches = decisions.decide_search(trials, fpir, count)
    with open_store(store) as opened, opened.change():
        write_decider(opened, "far", verifies)
        write_decider(opened, "fpir", searches)
    known = int((trials.mate > -np.inf).sum())
    show(f"{len(probes.names)} sets, {known} of them of people in the store, against {count} people")
    show(f"FAR {far:g}: threshold {verifies.everyone.line()}")
    show(f"FPIR {fpir:g}: threshold {searches.everyone.line()}")
    for kind in decisions.BY:
        limits, members = decisions.strata_of(probes, kind)
        rows = decisions.stratum_rows(
            trials, verifies.everyone.same, decisions.labels_of(limits, kind), members
        )
        for row in rows:
            if row.impostors:
                rate = verifies.everyone._replace(
                    accepted=row.accepted, impostors=row.impostors, hits=row.hits, genuine=row.genuine
                )
                show(f"  {row.label}: threshold {rate.line()}")
    for label, threshold in zip(decisions.labels_of(edges, by) if by else (), verifies.strata, strict=True):
        if threshold:
            show(f"  {label}: own threshold {threshold.line()}")
    if plot:
        from fpsset.reports.plots import draw_open_set

        draw_open_set(plot, {store.name: decisions.open_set_curve(trials)}, f"{store.name}, {source.name}")
        show(f"{plot}: written")


def _changed(before: int, now: int) -> str:
    return f"warning: calibrated when {before} people were enrolled, now {now}: calibrate again for this FPIR"
