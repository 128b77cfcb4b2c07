"""fpsset verify: decides whether two sets of faces show the same person."""

import json
import pathlib

import click
import numpy as np

from fpsset.commands.options import PATH, backbone_options, json_option
from fpsset.runtime.escapes import show


@click.command()
@click.argument("first", metavar="A", type=PATH)
@click.argument("second", metavar="B", type=PATH)
@click.option("--model", required=True, type=PATH, help="Model given to fpsset calibrate.")
@click.option("--far", type=float, help="FAR of the threshold, if several are calibrated.")
@backbone_options
@json_option
def verify(
    first: pathlib.Path,
    second: pathlib.Path,
    model: pathlib.Path,
    far: float | None,
    as_json: bool,
    **backbone,
) -> None:
    """Decide whether two sets of faces show the same person.

    A and B are feature files with one set each or, with --weights, photos, videos or folders of one person
    each.
    Prints the score, the threshold from `fpsset calibrate` with its FAR, and whether the score is above it.
    The exit code is 0 for either answer, and 2 if there is no answer.
    """
    from fpsset.commands.inputs import read_faces
    from fpsset.evaluation.calibration import read_threshold, thresholds_file
    from fpsset.evaluation.protocols import require_backbone
    from fpsset.inference.loading import load
    from fpsset.runtime.programs import keep_programs

    fix = "give a file with one set"
    tables = [read_faces(path, None, None, backbone, fix).table for path in (first, second)]
    keep_programs()
    aggregator = load(model)
    calibrated = read_threshold(thresholds_file(model), aggregator.digest, far)
    for table in tables:
        require_backbone(table, aggregator.dim, aggregator.backbone)
    table_a, table_b = tables
    require_backbone(table_b, table_a.dim, table_a.backbone, table_a.name)  # the model's may not be known
    _, vectors, _, _ = aggregator.aggregate(
        np.concatenate([table_a.embeddings, table_b.embeddings]),
        np.concatenate([table_a.norms, table_b.norms]),
        np.repeat([0, 1], [len(table_a), len(table_b)]),
        media=np.concatenate([table_a.media, table_b.media]),
    )
    if calibrated.warning:
        show(f"warning: {calibrated.warning}", err=True)
    score = float(vectors[0] @ vectors[1])
    accepted = score > calibrated.threshold.value
    if as_json:
        names = ("threshold", "threshold_low", "threshold_high", "far", "achieved_far", "impostor_pairs")
        held = calibrated.to_json()
        answer = {"score": score, "accepted": accepted, **{name: held.get(name) for name in names}}
        click.echo(json.dumps(answer | {"data": calibrated.data, "model": aggregator.digest}))
        return
    decision = "accepted" if accepted else "refused"
    show(
        f"{decision}: score {score:.4f}, threshold {calibrated.threshold.value:.4f} for a FAR "
        f"of {calibrated.far:g} ({calibrated.impostor_pairs} impostor pairs of {calibrated.data})"
    )
