"""TAR when faces of strangers are among a person's: means, and the default model with strangers set aside.

python benchmarks/strangers.py --train faces_train.npz --evaluate faces_dev_mixed.npz

The two templates of each person are a gallery and a probe. Strangers are put into the gallery's sets only,
each as a medium of its own: faces of other people of the training file, all different, or near-copies of one
face of one stranger. The model and the odds of a face being a stranger's are fitted on the training file. TAR
is at the threshold that all pairs of a gallery and a probe give for a FAR of 1e-3, with 95% intervals by
resampling people.
"""

import argparse
import pathlib

import numpy as np
import timing

import fpsset
from fpsset.data.feature_table import FeatureTable
from fpsset.data.files import read_features
from fpsset.evaluation.resampling import SubjectDraws, interval
from fpsset.face_set import group_rows
from fpsset.people.consensus import fit_odds, strangers_among

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)
FAR, NOISE, TRIMMED, RESAMPLES = 1e-3, 0.25, 0.25, 200
METHODS = ("plain mean", "trimmed mean", "fpsset, all faces", "fpsset, strangers set aside")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=pathlib.Path, required=True)
    parser.add_argument("--evaluate", type=pathlib.Path, required=True)
    options = parser.parse_args()
    train, faces = read_features(options.train), read_features(options.evaluate)
    model, odds = fpsset.fit(options.train), fit_odds(train)
    people = np.unique(faces.subject)
    galleries = np.array([faces.template[faces.subject == person].min() for person in people])
    is_gallery = np.isin(faces.template, galleries)
    probes = {name: described(name, model, faces.take(~is_gallery), odds)[0] for name in METHODS}
    draws = SubjectDraws(people, RESAMPLES).weights
    for kind in ("different strangers", "near-copies of one stranger"):
        rows = []
        for share in SHARES:
            rng = np.random.default_rng(round(100 * share))
            table, mine = mixed(faces.take(is_gallery), train, share, kind[0] == "n", rng)
            cells = []
            for name in METHODS:
                vectors, aside = described(name, model, table, odds)
                cells.append(figure(vectors @ probes[name].T, draws))
            found = f"{aside[~mine].mean():.3f}" if (~mine).any() else "-"
            rows.append([f"{share:.0%}", *cells, found, f"{aside[mine].mean():.3f}"])
        columns = ["of the faces", *METHODS, "strangers set aside", "own faces set aside"]
        note = f"TAR at FAR {FAR:g}: {len(people)} genuine pairs; odds of training people"
        timing.show(kind, columns, rows, [note])


def mixed(
    faces: FeatureTable, train: FeatureTable, share: float, copies: bool, rng: np.random.Generator
) -> tuple[FeatureTable, np.ndarray]:
    """(The faces with strangers among each person's, [M] bool, which are the person's)."""
    columns = {name: [getattr(faces, name)] for name in ("embeddings", "norms", "subject", "media")}
    for person in np.unique(faces.subject):
        count = round(share / (1 - share) * (faces.subject == person).sum())
        if not count:
            continue
        rows = np.full(count, rng.integers(len(train))) if copies else rng.choice(len(train), count)
        vectors = train.embeddings[rows]
        if copies:
            vectors = vectors + NOISE * rng.standard_normal(vectors.shape) / vectors.shape[1] ** 0.5
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        media = 10**6 * (1 + person) + np.arange(count)
        for name, values in zip(
            columns, (vectors, train.norms[rows], np.full(count, person), media), strict=True
        ):
            columns[name].append(values)
    table = FeatureTable(*(np.concatenate(parts).astype(parts[0].dtype) for parts in columns.values()))
    return table, np.arange(len(table)) < len(faces)


def described(name: str, model, table: FeatureTable, odds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([P, D] descriptors of people by one method, [M] bool faces that it leaves out)."""
    _, sets = group_rows(table.embeddings, table.norms, table.subject, table.media)
    aside = np.zeros(len(table), bool)
    if name == METHODS[1]:
        for first, last in zip(sets.starts[:-1], sets.starts[1:], strict=True):
            rows = sets.rows[first:last]
            cosines = table.embeddings[rows] @ table.embeddings[rows].sum(0)
            aside[rows[np.argsort(cosines)[: int(TRIMMED * len(rows))]]] = True
    if name == METHODS[3]:
        aside = strangers_among(sets, odds)
    kept = table.take(~aside)
    if name in METHODS[2:]:
        found = model.aggregate(kept.embeddings, kept.norms, kept.subject, media=kept.media)
        return found.descriptors, aside
    _, sets = group_rows(kept.embeddings, kept.norms, kept.subject)
    sums = np.add.reduceat(kept.embeddings[sets.rows], sets.starts[:-1])
    return sums / np.linalg.norm(sums, axis=1, keepdims=True), aside


def figure(scores: np.ndarray, draws: np.ndarray) -> str:
    """TAR at FAR for the scores [P, P] of galleries and probes of the same people, with its interval."""
    people = len(scores)
    first, second = np.nonzero(~np.eye(people, dtype=bool))
    impostors = scores[first, second]
    order = np.argsort(-impostors)
    genuine = np.diag(scores)

    def tar(weights: np.ndarray) -> float:
        counts = np.cumsum((weights[first] * weights[second])[order])
        place = np.searchsorted(counts, FAR * counts[-1] + 1e-6, side="right")
        return float((weights * (genuine > impostors[order][place])).sum() / weights.sum())

    low, high = interval(np.array([tar(weights) for weights in draws]))
    return f"{tar(np.ones(people)):.3f} ({low:.3f}, {high:.3f})"


if __name__ == "__main__":
    main()
