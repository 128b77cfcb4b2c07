"""1:N on real faces: stills enrolled, clips as probes, one descriptor against prototypes and every face.

python benchmarks/people_trial.py --train faces_train.npz --enrol faces_dev_mixed.npz \
    --probes faces_dev_clips.npz faces_dev_clips_hard.npz

The stills of half of the people are enrolled (first those with even numbers, then the others), and all clips
are searched: half of the probes' people are not enrolled. TPIR counts probes whose person is at rank 1 with
a score above the threshold that the other probes give for an FPIR. Figures are means of the two halves, with
95% intervals by resampling people, thresholds set anew; differences are from one descriptor on the same
draws. The models are fitted on the training file, and nothing is chosen on the people here but what the
table says is best.
"""

import argparse
import pathlib
import tempfile

import numpy as np
import timing

import fpsset
from fpsset.data.feature_table import FeatureTable
from fpsset.data.files import read_features
from fpsset.evaluation.resampling import SubjectDraws, interval
from fpsset.people.gallery import Gallery, read_gallery
from fpsset.people.people import People, names_of
from fpsset.people.search import ExactSearch
from fpsset.people.settings import Settings
from fpsset.people.store import open_store

FPIRS, RESAMPLES = (0.01, 0.1), 1000
WAYS = {"one descriptor": 1, "2 prototypes": 2, "4 prototypes": 4, "auto": "auto", "every face": 32}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=pathlib.Path, required=True)
    parser.add_argument("--enrol", type=pathlib.Path, required=True)
    parser.add_argument("--probes", type=pathlib.Path, nargs="+", required=True)
    options = parser.parse_args()
    faces = read_features(options.enrol)
    media, count = np.unique(faces.media, return_counts=True)
    stills = faces.take(np.isin(faces.media, media[count == 1]))
    for name, model in (("posterior", fpsset.fit(options.train)), ("plain", fpsset.PlainAggregator())):
        for path in options.probes:
            trial(f"{name}, {path.stem}", model, stills, read_features(path))


def trial(title: str, model, stills: FeatureTable, probes: FeatureTable) -> None:
    """Prints the table of one model and one file of probes."""
    found = model.aggregate(probes.embeddings, probes.norms, probes.template, media=probes.media)
    first = np.unique(probes.template, return_index=True)[1]
    subjects = probes.subject[first]
    draws = SubjectDraws(subjects, RESAMPLES)
    weights = np.concatenate([np.ones((1, draws.weights.shape[1])), draws.weights])[:, draws.codes]
    figures, sizes, ranks = {}, {}, {}
    for way, prototypes in WAYS.items():
        halves, sizes[way] = [], 0
        for half in (0, 1):
            part = stills.take(stills.subject % 2 == half)
            gallery = enrolled(model, part, prototypes)
            sizes[way] += gallery.vectors.nbytes
            halves.append(outcomes(gallery, found.descriptors, subjects))
        figures[way] = {
            fpir: np.mean([tpir(*one, weights, fpir) for one in halves], axis=0) for fpir in FPIRS
        }
        ranks[way] = np.mean([(mate > top)[mate > -np.inf].mean() for mate, top in halves])
    rows = [
        [
            way,
            f"{ranks[way]:.4f}",
            *cells(figures[way], figures["one descriptor"]),
            f"{sizes[way] / 2**10:.0f}",
        ]
        for way in WAYS
    ]
    columns = ["", "rank 1", *(f"TPIR at FPIR {fpir:g}" for fpir in FPIRS), "KiB"]
    people = len(np.unique(stills.subject))
    mated = int(np.isin(subjects, stills.subject).sum())
    note = f"{len(stills)} stills of {people} people; {len(subjects)} probes, {mated} of them of these people"
    timing.show(title, columns, rows, [f"{note}, each mated in one of the halves"])


def enrolled(model, part: FeatureTable, prototypes) -> Gallery:
    """The gallery of a store in which a table is enrolled."""
    with tempfile.TemporaryDirectory() as folder, open_store(f"{folder}/a.fps", create=True) as store:
        people = People(store, model, Settings(part.dim, "", "", model.digest, prototypes))
        people.enrol(part, names_of(part), "stills")
        return read_gallery(store)


def outcomes(gallery: Gallery, vectors: np.ndarray, subjects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([Q] score with the probe's person, -inf if not enrolled; [Q] highest score with anybody else)."""
    scores = np.concatenate([block for _, block in ExactSearch(gallery).every_score(vectors)])
    own = subjects.astype(str)[:, None] == gallery.names[None]
    return np.where(own, scores, -np.inf).max(1), np.where(own, -np.inf, scores).max(1)


def tpir(mate: np.ndarray, top: np.ndarray, weights: np.ndarray, fpir: float) -> np.ndarray:
    """[R] TPIR by each row of weights [R, Q]."""
    mated = mate > -np.inf
    others = np.flatnonzero(~mated)[np.argsort(-top[~mated])]
    false = np.cumsum(weights[:, others], axis=1)
    places = (false <= fpir * false[:, -1:] + 1e-6).sum(1)
    hits = mated & (mate > top) & (mate > top[others][places][:, None])
    return (weights * hits).sum(1) / weights[:, mated].sum(1)


def cells(figures: dict, base: dict) -> list[str]:
    """Each TPIR with its interval, and its difference from the first way's."""
    texts = []
    for fpir, rates in figures.items():
        low, high = interval(rates[1:])
        text = f"{rates[0]:.4f} ({low:.4f}, {high:.4f})"
        if figures is not base:
            change = rates - base[fpir]
            low, high = interval(change[1:])
            text += f"\n{change[0]:+.4f} ({low:+.4f}, {high:+.4f})"
        texts.append(text)
    return texts


if __name__ == "__main__":
    main()
