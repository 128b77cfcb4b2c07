"""A verdict on each face of a set: good, poor, a duplicate, a stranger, or cut off; and what to add."""

import dataclasses
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

KINDS = ("good", "poor", "duplicate", "stranger", "cut off")
_NAMED = 4  # faces in a sentence


class Verdict(NamedTuple):
    """What is to be said about a face.

    Attributes:
      kind: one of `KINDS`.
      why: in a few words; empty if it is good.
    """

    kind: str
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Looks:
    """What is known of the pictures of N faces, beyond their embeddings. None where it is not known.

    Attributes:
      sources: [N] the photo or video of each; faces of one are no duplicates of each other.
      contents: N byte strings, equal for equal pictures.
      inside: [N] share of each aligned face that lies in its photo, in [0, 1].
      sides: [N] pixels of the shorter side of each face's box in its photo.
      sharpness: [N] see `fpsset.images.sharpness`.
      turned: [N] how far each is turned away, see `turned_away`.
      typical_norm: mean norm of the faces that the model was fitted to.
    """

    sources: np.ndarray | None = None
    contents: list[bytes] | None = None
    inside: np.ndarray | None = None
    sides: np.ndarray | None = None
    sharpness: np.ndarray | None = None
    turned: np.ndarray | None = None
    typical_norm: float | None = None


NOTHING_KNOWN = Looks()


@dataclasses.dataclass(frozen=True)
class VerdictRules:
    """Thresholds of the verdicts.

    Chosen by a MobileFaceNet's embeddings: stills that were saved again as JPEG of quality 75, or reduced to
    70%, are above `duplicate`, and different stills of one person below it.

    Attributes:
      duplicate: minimum cosine of faces from different photos that are nearly the same picture.
      poor: a face is poor if its norm is below this fraction of the set's median norm.
      typical: or below this fraction of the mean norm of the faces that the model was fitted to.
      side: or if its box had fewer pixels, so that it was enlarged about twice.
      blurred: or if it is less sharp than this, as stills are after a blur of 2 pixels and are not otherwise.
      inside: a face is cut off if less than this share of it lies in its photo.
      turned: a face is turned away if `turned_away` is more than this, about 30 degrees.
      stranger: a face looks like someone else if its cosine to the mean of the others is below this, and it
        is not poor.
    """

    duplicate: float = 0.93
    poor: float = 0.8
    typical: float = 0.7
    side: float = 40
    blurred: float = 0.42
    inside: float = 0.9
    turned: float = 0.25
    stranger: float = 0.2

    def sentences(self) -> tuple[str, ...]:
        """The rules in words, to be printed beside the verdicts."""
        return (
            f"A face looks like someone else when its cosine to the norm-weighted mean of the other faces is "
            f"below {self.stranger:g}; if its norm is also below {self.poor:g} times the set's median norm, "
            "it is too degraded to tell whose face it is.",
            f"Faces of different photos are duplicates when their cosine is at least {self.duplicate:g}; the "
            "one with the largest norm is kept.",
            f"A face is poor when its norm is below {self.poor:g} times the set's median norm, or below "
            f"{self.typical:g} times the mean norm of the faces that the model was fitted to, when its box "
            f"in the photo has fewer than {self.side:g} pixels on its shorter side, or when it is blurred: "
            f"its second differences are less than {self.blurred:g} times its first ones.",
            f"A face is cut off when less than {self.inside:.0%} of it lies in its photo.",
        )


VERDICT_RULES = VerdictRules()


def judge(
    embeddings: np.ndarray,
    norms: np.ndarray,
    agreement: np.ndarray,
    names: list[str],
    media: np.ndarray | None = None,
    looks: Looks = NOTHING_KNOWN,
    rules: VerdictRules = VERDICT_RULES,
) -> tuple[Verdict, ...]:
    """A verdict on each face.

    Args:
      embeddings: [N, D] float32 unit rows.
      norms: [N] float32.
      agreement: [N], see `fpsset.inference.explanation.agreement_of`.
      names: N names.
      media: optional [N], the medium of each; frames of one are no duplicates of each other.
      looks: what is known of the pictures.
      rules: the thresholds.
    """
    median = float(np.median(norms)) if len(norms) else 0.0
    twins = _twins(
        embeddings, norms, [ids for ids in (media, looks.sources) if ids is not None], looks, rules
    )
    found = []
    for i in range(len(norms)):
        low = norms[i] < rules.poor * median
        weak = looks.typical_norm is not None and norms[i] < rules.typical * looks.typical_norm
        if agreement[i] < rules.stranger and not low:
            found.append(Verdict("stranger", "looks like someone else"))
        elif i in twins:
            twin, same = twins[i]
            what = "the same picture as" if same else "nearly the same picture as"
            found.append(Verdict("duplicate", f"{what} {names[twin]}"))
        elif looks.inside is not None and looks.inside[i] < rules.inside:
            found.append(Verdict("cut off", f"cut off: {looks.inside[i]:.0%} of it lies in the photo"))
        elif low:
            found.append(Verdict("poor", f"poor: norm {norms[i]:.3g}, the set's median is {median:.3g}"))
        elif weak:
            typical = f"{looks.typical_norm:.3g}"
            found.append(Verdict("poor", f"poor: norm {norms[i]:.3g}, the model's faces have {typical}"))
        elif looks.sides is not None and looks.sides[i] < rules.side:
            found.append(Verdict("poor", f"poor: {looks.sides[i]:.0f} pixels in the photo, so enlarged"))
        elif looks.sharpness is not None and looks.sharpness[i] < rules.blurred:
            found.append(Verdict("poor", "poor: blurred"))
        else:
            found.append(Verdict("good"))
    return tuple(found)


def verdict_lines(
    verdicts: tuple[Verdict, ...],
    names: list[str],
    picks: np.ndarray,
    media: np.ndarray | None = None,
    looks: Looks = NOTHING_KNOWN,
    rules: VerdictRules = VERDICT_RULES,
    said: Collection[int] = (),
) -> list[str]:
    """The verdicts in sentences: how many faces of each kind, poor picks, and what to add.

    Args:
      verdicts: of N faces.
      names: N names.
      picks: [K] faces that were picked.
      media: see `judge`.
      looks: see `judge`.
      rules: see `judge`.
      said: faces that others have said to be copies.
    """
    kinds = np.array([verdict.kind for verdict in verdicts], object)
    lines = []
    for kind, one, many in (
        ("duplicate", "is a copy of another", "are copies of others"),
        ("cut off", "is cut off", "are cut off"),
        ("poor", "is poor", "are poor"),
    ):
        rows = [i for i in np.flatnonzero(kinds == kind) if kind != "duplicate" or i not in said]
        if len(rows) == 1:
            lines.append(f"{names[rows[0]]} {one} ({verdicts[rows[0]].why.removeprefix(f'{kind}: ')}).")
        elif len(rows):
            lines.append(f"{len(rows)} of {len(kinds)} faces {many}: {listed([names[i] for i in rows])}.")
    for k, pick in enumerate(picks):
        if kinds[pick] == "poor" and len(picks) < len(kinds):
            lines.append(
                f"Pick {k + 1}, {names[pick]}, is poor: it was picked because it is far from the other "
                "picks, perhaps only for being poor."
            )
    wish = _wish(kinds, media, looks, rules)
    return [*lines, wish] if wish else lines


def _wish(kinds: np.ndarray, media: np.ndarray | None, looks: Looks, rules: VerdictRules) -> str:
    """What would help most, where the figures say so."""
    if not len(kinds):
        return ""
    poor = bool((kinds == "poor").all())
    turned = looks.turned is not None and bool((looks.turned > rules.turned).all())
    if poor or turned:
        wanted = " ".join(["sharp"] * poor + ["frontal"] * turned)
        why = " and ".join(["poor"] * poor + ["turned away"] * turned)
        return f"A {wanted} photo would help most: all of these are {why}."
    media = media if looks.sources is None else looks.sources
    if media is not None and len(kinds) > 1 and len(np.unique(media)) == 1:
        return "A photo from another occasion would help most: all of these are of one video."
    return ""


def listed(names: list[str]) -> str:
    """Names in a sentence, of which a few if they are many.

    >>> listed(["a", "b", "c"]), listed(["a"] * 6)
    ('a, b and c', 'a, a, a, a and 2 more')
    """
    shown = names[:_NAMED] + [f"{len(names) - _NAMED} more"] * (len(names) > _NAMED)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def turned_away(landmarks: np.ndarray) -> np.ndarray:
    """How far faces are turned to a side: the nose's distance from the middle of the eyes, in eye distances.

    Args:
      landmarks: [N, 5, 2], see `fpsset.images.detector.Detections`.

    Returns:
      [N]; 0 from the front, about .25 at 30 degrees, more than .5 in profile.
    """
    left, right, nose = (np.asarray(landmarks, np.float64)[:, i] for i in range(3))
    across = right - left
    length = np.maximum(np.linalg.norm(across, axis=1), 1e-9)
    return np.abs(((nose - (left + right) / 2) * across).sum(axis=1)) / length**2


def _twins(
    embeddings: np.ndarray,
    norms: np.ndarray,
    shared: list[np.ndarray],
    looks: Looks,
    rules: VerdictRules,
) -> dict[int, tuple[int, bool]]:
    """For each duplicate (the face that is kept, whether their contents are equal).

    Faces that agree in any of the `shared` columns [N] are none of each other.
    """
    twins: dict[int, tuple[int, bool]] = {}
    kept: list[int] = []
    rows = np.empty_like(embeddings)  # of those that are kept, side by side
    first: dict[bytes, int] = {}
    for i in np.argsort(-norms, kind="stable").tolist():
        if looks.contents is not None:
            same = first.setdefault(looks.contents[i], i)
            if same != i and not any(column[same] == column[i] for column in shared):
                twins[i] = same, True
                continue
        cosines = rows[: len(kept)] @ embeddings[i]
        for column in shared:
            cosines = np.where(column[kept] == column[i], -1, cosines) if kept else cosines
        if len(cosines) and cosines.max() >= rules.duplicate:
            twins[i] = kept[int(cosines.argmax())], False
            continue
        rows[len(kept)] = embeddings[i]
        kept.append(i)
    return twins
