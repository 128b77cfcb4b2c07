"""fpsset calibrate: finds the threshold for a FAR on labelled faces."""

import dataclasses
import json
import pathlib

import click

from fpsset.commands.options import PATH, backbone_options, json_option, model_argument
from fpsset.errors import InputError
from fpsset.runtime.escapes import show


@click.command()
@model_argument
@click.argument("features", type=PATH)
@click.option("--far", default=1e-3, show_default=True, help="False accept rate, not exceeded on FEATURES.")
@click.option(
    "--pairs",
    type=PATH,
    help="Text file of lines 'template template same'.  [default: all pairs]",
)
@click.option(
    "--resamples", default=1000, show_default=True, help="Resamples of the subjects, for the 95% intervals."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the resampling.")
@backbone_options
@json_option
def calibrate(
    model: str,
    fit: str | None,
    features: pathlib.Path,
    far: float,
    pairs: pathlib.Path | None,
    resamples: int,
    seed: int,
    as_json: bool,
    **backbone,
) -> None:
    """Find the threshold for a FAR and store it with the model, for `fpsset verify`.

    MODEL is a workdir, converted weights, a published checkpoint, or a pooling by name: plain, mean,
    norm_weighted, media_mean, fps; or posterior or whitened with --fit. FEATURES is a feature file with
    subjects: people like those the model will be used on, but none that it was trained on; or, with
    --weights, a folder with one folder of photos and videos per person. The threshold is written to
    thresholds.json in MODEL, or to MODEL.thresholds.json if MODEL is a file or a name.
    """
    from fpsset.commands.inputs import load_model, read_all_faces, require_source
    from fpsset.data.feature_table import known_people
    from fpsset.evaluation import calibration
    from fpsset.evaluation.protocols import make_protocol
    from fpsset.runtime.locks import sole_use
    from fpsset.runtime.progress import StepProgress

    if not 0 < far < 1:
        raise InputError(f"--far is {far:g}; it must be between 0 and 1")
    for name, value in (("resamples", resamples), ("seed", seed)):
        if value < 0:
            raise InputError(f"--{name} is {value}; it must be at least 0")
    require_source(features, None, backbone)
    aggregator = load_model(model, fit)
    table = read_all_faces(features, backbone)
    if pairs is None:
        table = known_people(table)
    protocol = make_protocol(table, str(pairs or ""))
    warning = calibration.warning_of(aggregator, table)
    if warning:
        StepProgress.say(f"warning: {warning}; calibrate on people that the model has not seen")
    found = calibration.calibrate(aggregator, protocol, far, resamples, seed)
    found = dataclasses.replace(found, warning=warning)
    path = calibration.thresholds_file(pathlib.Path(model))
    with sole_use(path, "MODEL"):  # the file's other thresholds are read and written again
        calibration.save_threshold(path, aggregator.digest, found)
    if as_json:
        click.echo(json.dumps({"model": aggregator.digest, "file": str(path), **found.to_json()}))
        return
    show(f"threshold {found.threshold} for a FAR of {far:g}")
    show(f"achieved FAR {found.achieved_far:.3g}, TAR {found.tar}")
    show(
        f"{found.subjects} subjects, {found.genuine_pairs} genuine and {found.impostor_pairs} "
        f"impostor pairs; {found.accepted_impostors} impostor pairs are accepted"
    )
    if found.threshold.interval:
        show(f"95% intervals by resampling subjects ({found.resamples} draws, seed {seed})")
    else:
        show("no intervals: they need at least 10 known subjects and --resamples above 0")
    show(f"{path}: written")
