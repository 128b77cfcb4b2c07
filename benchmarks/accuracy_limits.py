"""What limits accuracy: the number of training people, what weighting can achieve, and image quality.

python benchmarks/accuracy_limits.py --train train.npz --picture benchmarks/pictures/accuracy_limits.png

Uses people held out as in `accuracy.py` and the untrained closed-form initialisation, which takes seconds to
compute. Prints its TAR at FAR 1e-3 against the number of people it is computed from, compared with the best
power of the norm and with oracle weights that use each face's true cosine to its person's other media; then
TAR against the largest norm of the poorer template of a pair.
"""

import argparse
import dataclasses
import pathlib

import jax
import numpy as np
from accuracy import FARS, figure
from accuracy_protocols import Templates, degraded_rows, study
from matplotlib.figure import Figure as Canvas
from peers import NormPower
from timing import show

from fpsset.config import base_config
from fpsset.data.feature_table import FeatureTable, split_people
from fpsset.data.files import read_features
from fpsset.evaluation.scoring import pair_scores
from fpsset.evaluation.verification import operating_points
from fpsset.face_set import FaceSet
from fpsset.inference.descriptors import describe, describe_one
from fpsset.models.pooling import Pooling
from fpsset.training.closed_form_init import ClosedForm, closed_form_params, neighbourhood
from fpsset.training.modules import make_set_model

SHARES = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
POWERS, SHARPNESS = (3, 5, 8), (10.0, 20.0)
SHOWN = ("clips", "poor")
FIFTHS = 5
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#7f7f7f"


def initial_vectors(fit: FeatureTable, protocols: list[Templates]) -> list[np.ndarray]:
    """Descriptors of each protocol by the initialisation computed from `fit`."""
    fields = base_config().model
    net = make_set_model(fields)
    one = FaceSet(np.ones((1, 1, fit.dim)), np.ones((1, 1)), np.ones((1, 1), bool))
    params = closed_form_params(jax.jit(net.init)(jax.random.key(0), one)["params"], fit, ClosedForm())
    variables = {"params": params}
    return [describe_one(net, variables, part.sets).vectors for part in protocols]


def oracle(one: Templates, held: FeatureTable, sharpness: float) -> np.ndarray:
    """Descriptors with weights exp(sharpness * cosine of each face to its person's other media)."""
    near = neighbourhood(held)
    cosine = np.zeros(len(held))
    cosine[np.searchsorted(held.paths, near.faces.paths)] = near.cosine
    rows = np.searchsorted(held.paths, one.rows)
    weights = np.exp(sharpness * cosine[rows])
    vectors = np.zeros((len(one.subjects), held.dim))
    owner = np.repeat(np.arange(len(one.subjects)), one.sets.sizes())
    np.add.at(vectors, owner, weights[one.sets.rows, None] * one.sets.embeddings[one.sets.rows])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_quality(vectors: np.ndarray, one: Templates) -> np.ndarray:
    """TAR at FAR 1e-3 in fifths of the genuine pairs, by their poorer template's largest norm: [FIFTHS]."""
    scores = pair_scores(vectors, one.pairs)
    (point,) = operating_points(scores, one.pairs.same, FARS[:1])
    best = np.maximum.reduceat(one.sets.norms[one.sets.rows], one.sets.starts[:-1])
    same = one.pairs.same
    poorer = np.minimum(best[one.pairs.first[same]], best[one.pairs.second[same]])
    order = np.argsort(poorer, kind="stable")
    accepted = scores[same] >= point.threshold
    return np.array([part.mean() for part in np.array_split(accepted[order], FIFTHS)])


def draw(path: pathlib.Path, people: np.ndarray, lines: dict, fifths: dict) -> None:
    """Draws two panels per protocol: TAR against the number of people, and against the norm."""
    canvas = Canvas(figsize=(10, 6), layout="constrained")
    axes = canvas.subplots(len(SHOWN), 2)
    for row, name in enumerate(SHOWN):
        left, right = axes[row]
        left.semilogx(people, lines[name]["start"], "o-", color=ORANGE, label="fpsset, untrained")
        left.axhline(lines[name]["rival"], color=BLUE, ls="--", label="best power of the norm")
        left.axhline(lines[name]["oracle"], color=GREY, ls=":", label="oracle weights")
        left.set_xlabel("people it is computed from")
        left.set_ylabel("TAR at FAR 1e-3")
        left.set_title(f"{name}: number of training people")
        left.legend(frameon=False, fontsize=8, loc=(0.5, 0.1))
        places = np.arange(FIFTHS)
        right.plot(places, fifths[name]["start"], "o-", color=ORANGE, label="fpsset, untrained")
        right.plot(places, fifths[name]["rival"], "s--", color=BLUE, label="best power of the norm")
        right.set_xticks(places, ["poorest", "2nd", "3rd", "4th", "best"])
        right.set_xlabel("fifths of the pairs, by the poorer template's largest norm")
        right.set_ylim(None, 1.01)
        right.set_title(f"{name}: where it fails")
        right.legend(frameon=False, fontsize=8)
    canvas.savefig(path, dpi=120)


def main() -> None:
    """Prints the tables and draws the picture; see the module docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", required=True, type=pathlib.Path)
    parser.add_argument("--picture", required=True, type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    table = read_features(arguments.train)
    table = dataclasses.replace(table, paths=np.arange(len(table)))
    degraded = degraded_rows(arguments.train)
    tars = {name: {"start": [], "rival": [], "oracle": []} for name in SHOWN}
    fifths = {name: {"start": [], "rival": []} for name in SHOWN}
    people = []
    for repeat in range(arguments.repeats):
        fit, held = split_people(table, 0.2, seed=repeat)
        protocols = [one for one in study(held, degraded, 0) if one.name in SHOWN]
        parts = [fit if share == 1 else split_people(fit, share, seed=repeat)[1] for share in SHARES]
        people = [len(np.unique(part.subject)) for part in parts]
        found = [initial_vectors(part, protocols) for part in parts]
        powers = {f"p {p}": Pooling(NormPower(p)) for p in POWERS}
        for place, one in enumerate(protocols):
            at = tars[one.name]
            at["start"].append([figure(vectors[place], one).tar[0] for vectors in found])
            plain = {name: out.vectors for name, out in describe(powers, {}, one.sets).items()}
            best = max(plain.values(), key=lambda vectors: figure(vectors, one).tar[0])
            at["rival"].append(figure(best, one).tar[0])
            at["oracle"].append(max(figure(oracle(one, held, s), one).tar[0] for s in SHARPNESS))
            fifths[one.name]["start"].append(by_quality(found[-1][place], one))
            fifths[one.name]["rival"].append(by_quality(best, one))
    lines = {
        name: {kind: np.mean(values, axis=0) for kind, values in at.items()} for name, at in tars.items()
    }
    bins = {
        name: {kind: np.mean(values, axis=0) for kind, values in at.items()} for name, at in fifths.items()
    }
    columns = ["TAR@1e-3", *[f"{count:,} people" for count in people], "best n^p", "oracle"]
    rows = [
        [name, *[f"{tar:.4f}" for tar in at["start"]], f"{at['rival']:.4f}", f"{at['oracle']:.4f}"]
        for name, at in lines.items()
    ]
    show("The initialisation, computed from different numbers of people", columns, rows, [])
    columns = ["TAR@1e-3", "poorest fifth", "2nd", "3rd", "4th", "best"]
    rows = [
        [f"{name}, {kind}", *[f"{tar:.3f}" for tar in values]]
        for name, at in bins.items()
        for kind, values in at.items()
    ]
    show("Genuine pairs by the poorer template's largest norm", columns, rows, [])
    draw(arguments.picture, np.array(people), lines, bins)


if __name__ == "__main__":
    main()
