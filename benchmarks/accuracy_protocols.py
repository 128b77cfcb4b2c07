"""The protocols that recipes are compared on: templates of people held out of a training file."""

import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import FeatureTable, templates
from fpsset.evaluation.resampling import SubjectDraws
from fpsset.evaluation.verification import Pairs, all_pairs
from fpsset.evaluation.verification_draws import VerificationDraws
from fpsset.face_set import RaggedSets

MAX_CLIPS = 6  # templates per person in a protocol of clips
CROWD = 12  # near-copies of one medium
MIN_MEDIA = 6  # media of a person in the protocol `large`


class Templates(NamedTuple):
    """A protocol of T templates."""

    name: str
    subjects: np.ndarray  # [T]
    sets: RaggedSets
    rows: np.ndarray | None  # [M], the row in the file of each face, if `paths` holds it
    pairs: Pairs
    draws: VerificationDraws


def protocol(table: FeatureTable, name: str, resamples: int) -> Templates:
    """The protocol of all pairs of a table's templates."""
    _, subjects, sets = templates(table)
    pairs = all_pairs(subjects)
    return Templates(
        name, subjects, sets, table.paths, pairs, VerificationDraws(pairs, SubjectDraws(subjects, resamples))
    )


def clips(table: FeatureTable, rng: np.random.Generator) -> FeatureTable:
    """One template for each seed with several frames, at most MAX_CLIPS per person."""
    seeds, first, count = np.unique(table.seed, return_index=True, return_counts=True)
    several = rng.permutation(np.flatnonzero(count > 1))
    person = table.subject[first[several]]
    order = np.argsort(person, kind="stable")
    place = np.arange(len(order)) - np.searchsorted(person[order], person[order])
    chosen = seeds[several[order][place < MAX_CLIPS]]
    kept = table.take(np.isin(table.seed, chosen))
    return dataclasses.replace(kept, template=kept.seed)


def crowded(table: FeatureTable, rng: np.random.Generator, most: int) -> FeatureTable:
    """Two to `most` templates per person, each of up to three media and CROWD near-copies of one more."""
    rows, embeddings, norms, template = [], [], [], []
    for subject in np.unique(table.subject):
        faces = np.flatnonzero(table.subject == subject)
        seeds, count = np.unique(table.seed[faces], return_counts=True)
        number = max(2, min(len(seeds) // 3, most, np.count_nonzero(count > 1)))
        several = rng.permutation(seeds[count > 1])[:number]
        rest = rng.permutation(np.setdiff1d(seeds, several))
        if len(several) < number or len(rest) < number:
            continue
        for place, seed in enumerate(several):
            few = faces[np.isin(table.seed[faces], rest[place::number][:3])]
            frames = faces[table.seed[faces] == seed]
            share = rng.dirichlet([0.3] + [1.0] * (len(frames) - 1), CROWD)
            mixed = share @ (table.embeddings[frames] * table.norms[frames, None])
            mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
            mixed += 0.25 * rng.standard_normal(mixed.shape) / mixed.shape[1] ** 0.5
            mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
            rows += [few, np.full(CROWD, frames[0])]
            embeddings += [table.embeddings[few], mixed.astype(np.float32)]
            norms += [table.norms[few], (share @ table.norms[frames]).astype(np.float32)]
            template += [most * subject + place] * (len(few) + CROWD)
    if not rows:
        return table.take(np.zeros(0, np.int64))
    kept = table.take(np.concatenate(rows))
    return dataclasses.replace(
        kept,
        embeddings=np.concatenate(embeddings),
        norms=np.concatenate(norms),
        template=np.array(template, np.int64),
    )


def degraded_rows(path: pathlib.Path) -> set[int]:
    """Rows of a feature file that its column `degraded` marks; none without the column."""
    with np.load(path) as columns:
        return set(np.flatnonzero(columns["degraded"]).tolist()) if "degraded" in columns else set()


def study(held: FeatureTable, degraded: set[int], resamples: int, crowds: int = 2) -> list[Templates]:
    """The protocols of held-out people; see `accuracy.py`.

    Args:
      held: their faces; `paths` are row numbers of the file.
      degraded: rows of the file that hold degraded faces.
      resamples: number of resamples of the subjects.
      crowds: most templates per person in the protocol `crowded`.
    """
    rng = np.random.default_rng(0)
    of_clips = clips(held, rng)
    made = {"sets": dataclasses.replace(held, template=None), "clips": of_clips}
    poor = held
    if degraded:
        rows = np.array(sorted(degraded), np.int64)
        made["poor"] = of_clips.take(np.isin(of_clips.paths, rows))
        poor = held.take(np.isin(held.paths, rows))
    people, count = np.unique(held.subject[np.unique(held.media, return_index=True)[1]], return_counts=True)
    large = poor.take(np.isin(poor.subject, people[count >= MIN_MEDIA]))
    made["large"] = dataclasses.replace(large, template=None)
    made["crowded"] = crowded(poor, rng, crowds)
    return [protocol(part, name, resamples) for name, part in made.items() if len(set(part.subject)) > 1]
