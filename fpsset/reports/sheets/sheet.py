"""The content of a coreset sheet, whatever its form."""

import dataclasses

import numpy as np

from fpsset.inference.advice import Advice
from fpsset.inference.explanation import Explanation


@dataclasses.dataclass(frozen=True)
class Sheet:
    """One explained set of N faces, K of them picks.

    Attributes:
      title: what the set is.
      model: description of the model that explained it.
      why: the explanation.
      advice: what follows from it.
      names: N names of faces.
      images: N images, each [H, W, 3] uint8 RGB, or None if missing.
      places: [N, 2] in [0, 1], positions of the faces on a map.
      map_note: a sentence on what the map's axes are.
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
        """Whether any face has an image."""
        return any(image is not None for image in self.images)

    def counts(self) -> str:
        """The numbers of faces, media and picks."""
        parts = [_count(len(self.why), "face")]
        if self.why.media is not None:
            parts.append(f"{len(np.unique(self.why.media))} media")
        parts.append(_count(len(self.why.picks), "pick"))
        return ", ".join(parts)

    def reason(self, k: int) -> str:
        """Why pick k was picked."""
        if k == 0:
            return "the largest norm"
        before = "pick 1" if k == 1 else f"picks 1 to {k}"
        return f"farthest from {before}: distance {self.why.distances[k]:.3g}"


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
