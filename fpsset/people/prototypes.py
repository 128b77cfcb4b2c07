"""Several vectors a person: the faces nearest to each pick, described together.

The picks are those of farthest-point sampling. Whole media go to one pick, the one they are nearest to on
average, so that the frames of a video are described together.
"""

import numpy as np

from fpsset.face_set import RaggedSets
from fpsset.inference.aggregator import PlainAggregator
from fpsset.people.exact import describe_exactly
from fpsset.people.settings import AUTO

_MOST_BY_DEFAULT = 8  # of 'auto', which takes one for each medium


def prototype_sets(sets: RaggedSets, most: int | str) -> tuple[RaggedSets, np.ndarray]:
    """Splits every set into the sets behind its prototypes.

    Args:
      sets: P sets, with media.
      most: prototypes per set; 'auto': one for each still or video, at most eight.

    Returns:
      (Q >= P sets over the same table, set by set and by their first face; [Q] int64, which set each is of).
    """
    count = _MOST_BY_DEFAULT if most == AUTO else most
    picks = describe_exactly(PlainAggregator(count), sets, range(len(sets.starts))).coreset
    rows, starts, owner = [], [0], []
    for place, (first, last) in enumerate(zip(sets.starts[:-1], sets.starts[1:], strict=True)):
        members = sets.rows[first:last]
        nearest = _nearest_pick(sets, members, picks[place][picks[place] >= 0])
        for pick in dict.fromkeys(nearest.tolist()):
            rows.append(members[nearest == pick])
            starts.append(starts[-1] + len(rows[-1]))
            owner.append(place)
    return sets._replace(rows=np.concatenate(rows), starts=np.array(starts)), np.array(owner)


def _nearest_pick(sets: RaggedSets, members: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """[N] int64, the pick that the medium of each face is nearest to."""
    if len(picked) == 1:
        return np.zeros(len(members), np.int64)
    # Sums of products rather than a matrix product, whose bits may depend on how memory is aligned.
    cosines = np.stack([(sets.embeddings[members] * sets.embeddings[pick]).sum(1) for pick in picked], 1)
    media = np.unique(sets.media[members], return_inverse=True)[1]
    total = np.zeros((media.max() + 1, len(picked)))
    np.add.at(total, media, cosines)
    return total.argmax(1)[media]
