"""fpsset calibrate: a threshold for a stated FAR, on the user's labelled faces."""

import dataclasses
import pathlib

import click

from fpsset.errors import InputError


@click.command()
@click.argument("model", type=click.Path(path_type=pathlib.Path))
@click.argument("features", type=click.Path(path_type=pathlib.Path))
@click.option("--far", default=1e-3, show_default=True, help="Not to be exceeded on these faces.")
@click.option(
    "--pairs",
    type=click.Path(path_type=pathlib.Path),
    help="Lines 'template template same'; all pairs without.",
)
@click.option("--resamples", default=1000, show_default=True, help="Of the subjects, for the interval.")
@click.option("--seed", default=0, show_default=True, help="Of the resampling.")
def calibrate(
    model: pathlib.Path,
    features: pathlib.Path,
    far: float,
    pairs: pathlib.Path | None,
    resamples: int,
    seed: int,
) -> None:
    """Pick the threshold for a FAR, and keep it with the model for `fpsset verify`.

    MODEL is a workdir, a converted folder or a published checkpoint. FEATURES is a feature file of people
    like those it will be used on, with their subjects, and not of those the model was trained on. The
    threshold goes to thresholds.json in MODEL, or beside it where it is a file.
    """
    from fpsset.data.files import read_features
    from fpsset.evaluation import calibration
    from fpsset.evaluation.protocols import make_protocol
    from fpsset.inference.loading import load
    from fpsset.runtime.progress import StepProgress

    if not 0 < far < 1:
        raise InputError(f"--far is {far:g}; it must be between 0 and 1")
    for name, value in (("resamples", resamples), ("seed", seed)):
        if value < 0:
            raise InputError(f"--{name} is {value}; it must be at least 0")
    table = read_features(features)
    protocol = make_protocol(table, str(pairs or ""))
    aggregator = load(model)
    warning = calibration.warning_of(aggregator, table)
    if warning:
        StepProgress.say(f"warning: {warning}; calibrate on people it has not seen")
    found = calibration.calibrate(aggregator, protocol, far, resamples, seed)
    found = dataclasses.replace(found, warning=warning)
    path = calibration.thresholds_file(model)
    calibration.save_threshold(path, aggregator.digest, found)
    click.echo(f"threshold {found.threshold} for a FAR of {far:g}")
    click.echo(f"achieved FAR {found.achieved_far:.3g}, TAR {found.tar}")
    click.echo(
        f"{found.subjects} subjects, {found.genuine_pairs} genuine and {found.impostor_pairs} "
        f"impostor pairs; {found.accepted_impostors} of these are accepted, the next sets the threshold"
    )
    if found.threshold.interval:
        click.echo(f"95% intervals by resampling subjects ({found.resamples} draws, seed {seed})")
    else:
        click.echo("no intervals: they take at least 10 known subjects, and --resamples")
    click.echo(f"{path}: written")
