"""A doctor for the colour order: are faces of one person closer together when red and blue are swapped?"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fpsset.images.image_files import UnreadableImage
from fpsset.images.recognisers import Recogniser
from fpsset.runtime.progress import StepProgress

_RESAMPLES = 200


class Diagnosis(NamedTuple):
    """How well two orders separate people.

    Attributes:
      stated: separation under the stated order: the distance of the mean cosines of same-folder and
        other-folder pairs, in pooled standard deviations (d').
      swapped: the same with red and blue swapped.
      gain_low: what swapped - stated exceeds in 95% of resamples of the people.
      people: in the sample.
      images: in the sample.
    """

    stated: float
    swapped: float
    gain_low: float
    people: int
    images: int

    @property
    def looks_wrong(self) -> bool:
        """Swapped separates better, beyond chance."""
        return self.gain_low > 0


def check_color_order(subject: np.ndarray, read: Callable[[int], np.ndarray], recogniser: Recogniser) -> None:
    """Warns when faces swapped in red and blue separate the people better.

    Args:
      subject: [M].
      read: row -> [112, 112, 3] uint8, RGB; raises UnreadableImage for rows to pass over.
      recogniser: the backbone.
    """
    found = diagnose(subject, read, recogniser)
    if found is None:
        StepProgress.say("colour order: not checked, for want of two people with two images each")
        return
    figures = (
        f"separation of people d' {found.stated:.2f} as {recogniser.card.color_order}, {found.swapped:.2f} "
        f"swapped ({found.images} images of {found.people} people)"
    )
    if found.looks_wrong:
        StepProgress.say(f"warning: the colour order looks wrong: {figures}; check the weights' colour order")
    else:
        StepProgress.say(f"colour order: {figures}")


def diagnose(
    subject: np.ndarray, read: Callable[[int], np.ndarray], recogniser: Recogniser
) -> Diagnosis | None:
    """Embeds a sample of the images in both colour orders.

    Args:
      subject: [M].
      read: row -> [112, 112, 3] uint8, RGB; raises UnreadableImage for rows to pass over.
      recogniser: the backbone.

    Returns:
      Diagnosis; None where no two people have two images each that can be read.
    """
    rows, faces = [], []
    for row in sample_rows(subject):
        try:
            faces.append(read(row))
            rows.append(row)
        except UnreadableImage:
            continue  # the run itself will list it
    subject = subject[rows]
    kept = np.isin(subject, [person for person in set(subject.tolist()) if (subject == person).sum() > 1])
    if len(np.unique(subject[kept])) < 2:
        return None
    return examine(recogniser, np.stack(faces)[kept], subject[kept])


def sample_rows(subject: np.ndarray, people: int = 32, each: int = 8) -> np.ndarray:
    """Rows for the doctor, spread over people and over each one's images.

    Args:
      subject: [M], negative where it is not known.
      people: at most.
      each: images a person, at most; people with one are left out.

    Returns:
      Row numbers; none when fewer than two people have two images.
    """
    ids, counts = np.unique(subject[subject >= 0], return_counts=True)
    ids = ids[counts >= 2]
    if len(ids) < 2:
        return np.zeros(0, np.int64)
    ids = ids[np.linspace(0, len(ids) - 1, min(people, len(ids))).astype(int)]
    rows = [np.flatnonzero(subject == i) for i in ids]
    return np.concatenate([r[np.linspace(0, len(r) - 1, min(each, len(r))).astype(int)] for r in rows])


def examine(recogniser: Recogniser, faces: np.ndarray, subject: np.ndarray) -> Diagnosis:
    """Embeds a sample in both orders and compares how they separate people.

    Args:
      recogniser: the backbone.
      faces: [M, 112, 112, 3] uint8, RGB, of two or more people with two or more each.
      subject: [M].
    """
    embeddings = [recogniser(faces, swap)[0] for swap in (False, True)]
    cosines = [e @ e.T for e in embeddings]
    people, codes = np.unique(subject, return_inverse=True)
    stated, swapped = (_separation(c, codes, np.ones(len(people))) for c in cosines)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), _RESAMPLES)
    gains = [_separation(cosines[1], codes, w) - _separation(cosines[0], codes, w) for w in weights]
    return Diagnosis(stated, swapped, float(np.nanquantile(gains, 0.05)), len(people), len(faces))


def _separation(cosines: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> float:
    """d' of genuine and impostor pairs, each person counted `weights` times."""
    first, second = np.triu_indices(len(codes), 1)
    values, same = cosines[first, second], codes[first] == codes[second]
    counts = np.where(same, weights[codes[first]], weights[codes[first]] * weights[codes[second]])
    moments = []
    for chosen in (same, ~same):
        if not counts[chosen].sum():
            return float("nan")
        mean = np.average(values[chosen], weights=counts[chosen])
        moments.append((mean, np.average((values[chosen] - mean) ** 2, weights=counts[chosen])))
    (genuine, spread), (impostor, other) = moments
    return float((genuine - impostor) / np.sqrt((spread + other) / 2 + 1e-12))
