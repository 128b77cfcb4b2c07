"""Checks a backbone's colour order: does swapping red and blue separate people better?"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fpsset.images.aligned_faces import UnreadableImage
from fpsset.images.recognisers import Recogniser, embedded
from fpsset.runtime.progress import StepProgress

_RESAMPLES = 200


class Diagnosis(NamedTuple):
    """How well people are separated under both colour orders.

    Attributes:
      stated: d' under the stated order: the difference between the mean cosines of genuine and impostor
        pairs, in pooled standard deviations.
      swapped: d' with red and blue swapped.
      gain_low: 5% quantile of swapped - stated over resamples of the people.
      people: number of people in the sample.
      images: number of images in the sample.
    """

    stated: float
    swapped: float
    gain_low: float
    people: int
    images: int

    @property
    def looks_wrong(self) -> bool:
        """Whether the swapped order separates people significantly better."""
        return self.gain_low > 0


def check_color_order(subject: np.ndarray, read: Callable[[int], np.ndarray], recogniser: Recogniser) -> None:
    """Reports the separation under both colour orders, with a warning if the stated one looks wrong.

    Args:
      subject: [M] int person ids, negative where unknown.
      read: maps a row to [112, 112, 3] uint8, RGB; raises UnreadableImage for rows to skip.
      recogniser: the backbone.
    """
    found = diagnose(subject, read, recogniser)
    if found is None:
        StepProgress.say("colour order: not checked; it takes two people with two images each")
        return
    figures = (
        f"separation of people d' {found.stated:.2f} as {recogniser.card.color_order}, {found.swapped:.2f} "
        f"swapped ({found.images} images of {found.people} people)"
    )
    if found.looks_wrong:
        StepProgress.say(
            f"warning: the colour order looks wrong: {figures}; check the order that the weights expect"
        )
    else:
        StepProgress.say(f"colour order: {figures}")


def diagnose(
    subject: np.ndarray, read: Callable[[int], np.ndarray], recogniser: Recogniser
) -> Diagnosis | None:
    """Embeds a sample of the images in both colour orders; see `check_color_order` for the arguments.

    Returns:
      Diagnosis, or None unless two people have two readable images each.
    """
    rows, faces = [], []
    for row in sample_rows(subject):
        try:
            faces.append(read(row))
            rows.append(row)
        except UnreadableImage:
            continue  # the run itself will report it
    subject = subject[rows]
    kept = np.isin(subject, [person for person in set(subject.tolist()) if (subject == person).sum() > 1])
    if len(np.unique(subject[kept])) < 2:
        return None
    return examine(recogniser, np.stack(faces)[kept], subject[kept])


def sample_rows(subject: np.ndarray, people: int = 32, each: int = 8) -> np.ndarray:
    """Picks rows to examine, spread evenly over the people and over each person's images.

    Args:
      subject: [M] int person ids, negative where unknown.
      people: the largest number of people; those with a single image are left out.
      each: the largest number of images per person.

    Returns:
      Row numbers; none if fewer than two people have two images.
    """
    ids, counts = np.unique(subject[subject >= 0], return_counts=True)
    ids = ids[counts >= 2]
    if len(ids) < 2:
        return np.zeros(0, np.int64)
    ids = ids[np.linspace(0, len(ids) - 1, min(people, len(ids))).astype(int)]
    rows = [np.flatnonzero(subject == i) for i in ids]
    return np.concatenate([r[np.linspace(0, len(r) - 1, min(each, len(r))).astype(int)] for r in rows])


def examine(recogniser: Recogniser, faces: np.ndarray, subject: np.ndarray) -> Diagnosis:
    """Embeds faces in both orders and compares how well they separate people.

    Args:
      recogniser: the backbone.
      faces: [M, 112, 112, 3] uint8, RGB, of at least two people with at least two faces each.
      subject: [M] int person ids.
    """
    found = [recogniser(faces, swap) for swap in (False, True)]
    embeddings = [np.where(embedded(*one)[:, None], one[0], 0) for one in found]
    cosines = [e @ e.T for e in embeddings]
    people, codes = np.unique(subject, return_inverse=True)
    stated, swapped = (_separation(c, codes, np.ones(len(people))) for c in cosines)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), _RESAMPLES)
    gains = [_separation(cosines[1], codes, w) - _separation(cosines[0], codes, w) for w in weights]
    return Diagnosis(stated, swapped, float(np.nanquantile(gains, 0.05)), len(people), len(faces))


def _separation(cosines: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> float:
    """d' between genuine and impostor pairs, with each person counted `weights` times."""
    first, second = np.triu_indices(len(codes), 1)
    values, same = cosines[first, second], codes[first] == codes[second]
    counts = np.where(same, weights[codes[first]], weights[codes[first]] * weights[codes[second]])
    moments = []
    for chosen in (same, ~same):
        if not counts[chosen].sum():
            return float("nan")
        mean = np.average(values[chosen], weights=counts[chosen])
        moments.append((mean, np.average((values[chosen] - mean) ** 2, weights=counts[chosen])))
    (genuine_mean, genuine_variance), (impostor_mean, impostor_variance) = moments
    pooled_variance = (genuine_variance + impostor_variance) / 2
    return float((genuine_mean - impostor_mean) / np.sqrt(pooled_variance + 1e-12))
