"""The protocols on which methods are compared, and the figures of a method on them."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import FeatureTable, templates
from fpsset.evaluation.resampling import SubjectDraws, interval
from fpsset.evaluation.scoring import pair_scores
from fpsset.evaluation.verification import Pairs, all_pairs, operating_points
from fpsset.evaluation.verification_draws import VerificationDraws
from fpsset.face_set import RaggedSets

FARS = (1e-3, 1e-4)
MAX_CLIPS = 6  # templates per person in a protocol of clips
CROWD = 12  # near-copies of one medium
MIN_MEDIA = 6  # media of a person in the protocol `large`


class Figure(NamedTuple):
    """TAR at some FARs, overall and in each draw of the subjects; NaN with too few impostor pairs."""

    tar: np.ndarray  # [F]
    draws: np.ndarray  # [F, R]

    def minus(self, other: "Figure") -> "Figure":
        """The paired difference; both must come from the same draws."""
        return Figure(self.tar - other.tar, self.draws - other.draws)

    def texts(self) -> list[str]:
        """The value at each FAR with its 95% interval."""
        found = []
        for tar, draws in zip(self.tar, self.draws, strict=True):
            if np.isnan(tar):
                found.append("-")
                continue
            low, high = interval(draws) if len(draws) else (np.nan, np.nan)
            found.append(f"{tar:+.4f} ({low:+.4f}, {high:+.4f})")
        return found


def combined(figures: list[Figure], shares: np.ndarray | None = None) -> Figure:
    """The mean of figures of different people, weighted by `shares`, which sum to 1; equal by default."""
    return Figure(*(np.average(parts, axis=0, weights=shares) for parts in zip(*figures, strict=True)))


class Comparisons:
    """All pairs of some templates.

    Attributes:
      rows: [T] int, which templates.
      subjects: [T].
      pairs: T (T - 1) / 2 pairs of positions among them.
      fars: [F], at which TAR is taken.
    """

    rows: np.ndarray
    subjects: np.ndarray
    pairs: Pairs
    fars: Sequence[float]

    def __init__(
        self,
        subjects: np.ndarray,
        rows: np.ndarray,
        resamples: int,
        seed: int = 0,
        fars: Sequence[float] = FARS,
    ):
        """Pairs the templates `rows` of those whose people are `subjects`, and draws people."""
        self.rows, self.subjects, self.fars = rows, subjects[rows], fars
        self.pairs = all_pairs(self.subjects)
        self._draws = VerificationDraws(self.pairs, SubjectDraws(self.subjects, resamples, seed))
        self._resamples = resamples

    @property
    def genuine(self) -> int:
        """The number of genuine pairs."""
        return int(self.pairs.same.sum())

    def tar(self, vectors: np.ndarray) -> np.ndarray:
        """TAR at each FAR for descriptors of all templates: [F]."""
        return self._tar(pair_scores(vectors[self.rows], self.pairs))

    def figure(self, vectors: np.ndarray) -> Figure:
        """Like `tar`, with the draws of the people."""
        scores = pair_scores(vectors[self.rows], self.pairs)
        drawn = self._draws(scores, self.fars, area=False)
        missing = np.full(self._resamples, np.nan)
        return Figure(self._tar(scores), np.stack([drawn.tar.get(far, missing) for far in self.fars]))

    def _tar(self, scores: np.ndarray) -> np.ndarray:
        return np.array([point.tar for point in operating_points(scores, self.pairs.same, self.fars)], float)


class Protocol(NamedTuple):
    """The templates of a file, compared all together and in halves of the people."""

    name: str
    sets: RaggedSets
    everyone: Comparisons
    halves: tuple[Comparisons, ...]  # of people with even subjects, and with odd ones


def protocol(
    table: FeatureTable,
    name: str,
    resamples: int,
    with_halves: bool = False,
    fars: Sequence[float] = FARS,
) -> Protocol:
    """The protocol of all pairs of a table's templates."""
    _, subjects, sets = templates(table)
    everyone = Comparisons(subjects, np.arange(len(subjects)), resamples, fars=fars)
    halves = (np.flatnonzero(subjects % 2 == half) for half in (0, 1) if with_halves)
    return Protocol(
        name,
        sets,
        everyone,
        tuple(Comparisons(subjects, rows, resamples, half, fars) for half, rows in enumerate(halves)),
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


def study(held: FeatureTable, degraded: set[int], resamples: int, crowds: int) -> list[Protocol]:
    """The protocols of held-out people; see `accuracy.py`.

    Args:
      held: their faces; `paths` are row numbers of the file.
      degraded: rows of the file that hold degraded faces.
      resamples: number of draws of the subjects.
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
    found = [protocol(part, name, resamples) for name, part in made.items() if len(set(part.subject)) > 1]
    unknown = [
        one._replace(name="crowded, media unknown", sets=one.sets._replace(media=None))
        for one in found
        if one.name == "crowded"
    ]
    return found + unknown
