"""fpsset verify: compares two sets of faces, and decides whether they show the same person."""

import json
import pathlib

import click
import numpy as np

from fpsset.commands.options import PATH, PATH_TEXT, backbone_options, fit_option, json_option, merge_option
from fpsset.runtime.escapes import show


@click.command()
@click.argument("first", metavar="A", type=PATH)
@click.argument("second", metavar="B", type=PATH)
@click.option(
    "--model",
    type=PATH_TEXT,
    default="plain",
    show_default=True,
    help="A workdir, saved weights, or a pooling by name.",
)
@fit_option
@click.option("--far", type=float, help="FAR of the threshold, if several are calibrated.")
@merge_option
@backbone_options
@json_option
def verify(
    first: pathlib.Path,
    second: pathlib.Path,
    model: str,
    fit: str | None,
    far: float | None,
    merge: bool,
    as_json: bool,
    **backbone,
) -> None:
    """Compare two sets of faces, and decide whether they show the same person.

    A and B are feature files with one set each or, with --weights, photos, videos or folders of one person.
    Prints the score, the cosine of the two descriptors. With a threshold from `fpsset calibrate`, also
    whether the score is above it, and the FAR that it stands for. The exit code is 0 for either answer, and
    2 if there is no score.

    \b
      fpsset verify photos/anna photos/unknown --weights weights/adaface
      fpsset verify a.npz b.npz --model runs/mine --far 1e-3
    """
    from fpsset.commands.inputs import load_model, read_faces, require_source
    from fpsset.evaluation.calibration import read_threshold, thresholds_file
    from fpsset.evaluation.protocols import require_backbone

    for source in (first, second):
        require_source(source, None, backbone)
    aggregator = load_model(model, fit)
    thresholds = thresholds_file(pathlib.Path(model))
    calibrated = None
    if far is not None or thresholds.is_file():
        calibrated = read_threshold(thresholds, aggregator.digest, far)
    fix = "give one set, or --merge if all are of one person"
    table_a, table_b = (read_faces(path, None, None, backbone, fix, merge).table for path in (first, second))
    for table in (table_a, table_b):
        require_backbone(table, aggregator.dim, aggregator.backbone)
    require_backbone(table_b, table_a.dim, table_a.backbone, table_a.name)  # the model's may not be known
    _, vectors, _, _ = aggregator.aggregate(
        np.concatenate([table_a.embeddings, table_b.embeddings]),
        np.concatenate([table_a.norms, table_b.norms]),
        np.repeat([0, 1], [len(table_a), len(table_b)]),
        media=np.concatenate([table_a.media, table_b.media]),
    )
    score = float(vectors[0] @ vectors[1])
    if as_json:
        click.echo(json.dumps({"score": score, **_decision(score, calibrated), "model": aggregator.digest}))
    elif calibrated is None:
        show(f"score {score:.4f}")
        show(f"no threshold: fpsset calibrate {model} FEATURES finds one", err=True)
    else:
        decision = "accepted" if score > calibrated.threshold.value else "refused"
        show(
            f"{decision}: score {score:.4f}, threshold "
            f"{calibrated.threshold.value:.4f} for a FAR of {calibrated.far:g} ({calibrated.impostor_pairs} "
            f"impostor pairs of {calibrated.data})"
        )
    if calibrated is not None and calibrated.warning:
        show(f"warning: {calibrated.warning}", err=True)


def _decision(score: float, calibrated) -> dict:
    """The decision and its threshold as plain values; None without one."""
    names = ("threshold", "threshold_low", "threshold_high", "far", "achieved_far", "impostor_pairs")
    if calibrated is None:
        return {"accepted": None, **dict.fromkeys((*names, "data"))}
    held = calibrated.to_json()
    accepted = score > calibrated.threshold.value
    return {"accepted": accepted, **{name: held.get(name) for name in names}, "data": calibrated.data}
