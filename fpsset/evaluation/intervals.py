"""Confidence intervals by resampling subjects."""

import numpy as np

from fpsset.evaluation.verification import FARS, Pairs


def tar_intervals(
    scores: np.ndarray, pairs: Pairs, subjects: np.ndarray, resamples: int, seed: int = 0, fars=FARS
) -> dict[float, tuple[float, float]]:
    """95% intervals of TAR at FAR: subjects are drawn with replacement and both rates counted anew.

    Pairs of one subject are not independent, so the subject is what is drawn: a genuine pair counts
    as often as its subject, an impostor pair as the product of its two subjects' counts. The
    threshold is set again in each resample.

    Args:
      scores: [P].
      pairs: the pairs scored.
      subjects: [T] subjects of the templates.
      resamples: draws, > 0.
      seed: of the draws.
      fars: targets.

    Returns:
      {far: (low, high)} for the targets with at least one impostor allowed.
    """
    people, codes = np.unique(subjects, return_inverse=True)
    order = np.argsort(-scores, kind="stable")
    same = pairs.same[order]
    # Only the impostors that some resample can reach matter: twice the largest target.
    impostors = order[~same]
    head = impostors[: max(1, int(min(1.0, 3 * max(fars)) * len(impostors)))]
    first, second = codes[pairs.first[head]], codes[pairs.second[head]]
    genuine = order[same]
    owner = codes[pairs.first[genuine]]
    # How many of the sorted genuine scores lie above each sorted impostor's.
    above = np.searchsorted(-scores[genuine], -scores[head], side="left")
    pair_people = _pairs_by_people(codes, pairs, len(people))
    rng = np.random.default_rng(seed)
    tars: dict[float, list[float]] = {far: [] for far in fars if far * len(impostors) + 1e-6 >= 1}
    for _ in range(resamples):
        weight = rng.multinomial(len(people), np.full(len(people), 1 / len(people))).astype(np.float64)
        accepted = np.concatenate([[0.0], np.cumsum(weight[owner])])
        if accepted[-1] == 0:
            continue
        total = float(weight[pair_people[0]] * weight[pair_people[1]] @ pair_people[2])
        false = np.cumsum(weight[first] * weight[second])
        for far, values in tars.items():
            place = min(int(np.searchsorted(false, far * total + 1e-6, side="right")), len(head) - 1)
            values.append(accepted[above[place]] / accepted[-1])
    return {far: tuple(np.percentile(values, [2.5, 97.5]).tolist()) for far, values in tars.items() if values}


def _pairs_by_people(codes: np.ndarray, pairs: Pairs, people: int):
    """Impostor pairs counted by their two people: ([Q], [Q], [Q] counts)."""
    impostor = ~pairs.same
    key = codes[pairs.first[impostor]].astype(np.int64) * people + codes[pairs.second[impostor]]
    unique, counts = np.unique(key, return_counts=True)
    return unique // people, unique % people, counts.astype(np.float64)
