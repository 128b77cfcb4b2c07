"""What all forms of a coreset sheet show."""

import dataclasses

import numpy as np

from fpsset.inference.advice import Advice
from fpsset.inference.explanation import Explanation


@dataclasses.dataclass(frozen=True)
class Sheet:
    """One explained set of N faces, of which K are picks.

    Attributes:
      title: what the set is.
      model: what explained it, for people.
      why: the explanation.
      advice: what follows from it.
      names: N.
      images: N, [H, W, 3] uint8 RGB; None where there is none.
      places: [N, 2] in [0, 1], the faces on a map.
      map_note: what the map's directions are.
    """

    title: str
    model: str
    why: Explanation
    advice: Advice
    names: list[str]
    images: list[np.ndarray | None]
    places: np.ndarray
    map_note: str

    @property
    def pictured(self) -> bool:
        """Whether there are images."""
        return any(image is not None for image in self.images)

    def counts(self) -> str:
        """How much there is."""
        parts = [_count(len(self.why), "face")]
        if self.why.media is not None:
            parts.append(f"{len(np.unique(self.why.media))} media")
        parts.append(_count(len(self.why.picks), "pick"))
        return ", ".join(parts)

    def reason(self, k: int) -> str:
        """Why pick k was picked."""
        if k == 0:
            return "best quality: the largest norm"
        before = "pick 1" if k == 1 else f"picks 1 to {k}"
        return f"farthest from {before}: distance {self.why.distances[k]:.3g}"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
