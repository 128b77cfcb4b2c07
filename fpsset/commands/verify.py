"""fpsset verify: whether two sets of faces show one person, at a calibrated threshold."""

import json
import pathlib

import click
import numpy as np

from fpsset.commands.options import backbone_options, json_option


@click.command()
@click.argument("first", metavar="A", type=click.Path(path_type=pathlib.Path))
@click.argument("second", metavar="B", type=click.Path(path_type=pathlib.Path))
@click.option("--model", required=True, type=click.Path(path_type=pathlib.Path), help="As calibrated.")
@click.option("--far", type=float, help="Which threshold, where there are several.")
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
    """Compare two sets of faces.

    A and B are feature files of one set each, or with --weights folders of one person's images each. Answers
    with the score, the threshold, whether the score is above it, and the FAR that the threshold stands for;
    `fpsset calibrate` picks it. The exit code is 0 whatever the answer, 2 where there is none.
    """
    from fpsset.commands.inputs import read_faces
    from fpsset.evaluation.calibration import read_threshold, thresholds_file
    from fpsset.evaluation.protocols import require_backbone
    from fpsset.inference.loading import load

    mend = "give one set a file"
    tables = [read_faces(path, None, None, backbone, mend).table for path in (first, second)]
    aggregator = load(model)
    kept = read_threshold(thresholds_file(model), aggregator.digest, far)
    for table in tables:
        require_backbone(table, aggregator.dim, aggregator.backbone)
    table_a, table_b = tables
    _, vectors, _, _ = aggregator.aggregate(
        np.concatenate([table_a.embeddings, table_b.embeddings]),
        np.concatenate([table_a.norms, table_b.norms]),
        np.repeat([0, 1], [len(table_a), len(table_b)]),
        media=np.concatenate([table_a.media, table_b.media]),
    )
    if kept.warning:
        click.echo(f"warning: {kept.warning}", err=True)
    score = float(vectors[0] @ vectors[1])
    accepted = score > kept.threshold.value
    if as_json:
        names = ("threshold", "threshold_low", "threshold_high", "far", "achieved_far", "impostor_pairs")
        held = kept.to_json()
        answer = {"score": score, "accepted": accepted, **{name: held.get(name) for name in names}}
        click.echo(json.dumps(answer | {"data": kept.data, "model": aggregator.digest}))
        return
    decision = "accepted" if accepted else "refused"
    click.echo(
        f"{decision}: score {score:.4f}, threshold {kept.threshold.value:.4f}, which stands "
        f"for a FAR of {kept.far:g} ({kept.impostor_pairs} impostor pairs of {kept.data})"
    )
