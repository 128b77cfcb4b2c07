"""Turns an explanation into advice in words, by fixed and printable rules."""

import dataclasses

import numpy as np

from fpsset.inference.explanation import Explanation
from fpsset.inference.verdicts import (
    NOTHING_KNOWN,
    Looks,
    Verdict,
    VerdictRules,
    judge,
    listed,
    verdict_lines,
)

_LISTED = 4  # copies that have a sentence each
_ROWS_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True)
class Rules(VerdictRules):
    """Thresholds of the advice, and of the verdicts on faces that it rests on.

    The defaults suit embeddings of face recognisers.

    Measured with a MobileFaceNet on stills of 485 people and degraded copies of them: `stranger` caught 96%
    of single faces of another person that were put into a set. It flagged 3% of the person's own faces, half
    of them as too degraded to tell.

    Attributes:
      covered: minimum cosine between a face and its pick for the pick to represent the face.
      cover: fraction of the faces, in [0, 1], that the picks must represent to cover the set.
      idle: a face that is not picked adds nothing if leaving it out changes the descriptor by less than this,
        as 1 - cosine.
      copy: a face is a copy of an earlier one if their cosine is at least this.
    """

    covered: float = 0.5
    cover: float = 0.9
    idle: float = 0.001
    copy: float = 0.999

    def sentences(self) -> tuple[str, ...]:
        """The rules in words, to be printed beside the advice."""
        return (
            f"A pick represents the faces whose cosine to it is at least {self.covered:g}; the picks cover a "
            f"set when they represent at least {self.cover:.0%} of its faces.",
            f"A face that is not picked adds nothing when leaving it out changes the descriptor by less than "
            f"{self.idle:g} (1 - cosine).",
            f"A face is a copy of another when the cosine between them is at least {self.copy:g}.",
            *super().sentences(),
        )


RULES = Rules()


@dataclasses.dataclass(frozen=True)
class Advice:
    """Advice on one set of N faces, see `advise`.

    Attributes:
      strangers: [n] int64, faces that look like someone else.
      poor: [n] int64, faces too degraded to tell whose they are.
      idle: [n] int64, faces that add nothing; empty if the explanation has no `change`.
      covered: [K] int64, the number of faces that the first 1, 2, ..., K picks represent.
      copies: [n, 2] int64, pairs of a face and the first one that it is a copy of.
      repeats: [n] int64, positions in [1, K) of picks from an already picked medium, made while another
        medium had not been picked.
      verdicts: N verdicts, see `fpsset.inference.verdicts`.
      lines: all of this in words.
    """

    strangers: np.ndarray
    poor: np.ndarray
    idle: np.ndarray
    covered: np.ndarray
    copies: np.ndarray
    repeats: np.ndarray
    verdicts: tuple[Verdict, ...]
    lines: tuple[str, ...]

    def to_dict(self) -> dict:
        """The fields as plain Python values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["verdicts"] = [verdict._asdict() for verdict in self.verdicts]
        return {name: v.tolist() if isinstance(v, np.ndarray) else list(v) for name, v in fields.items()}

    def of_face(self, i: int) -> str:
        """The advice on face i in a few words; empty if there is none."""
        for said, words in (
            (i in self.strangers, "looks like someone else"),
            (i in self.poor, "too degraded to tell whose face it is"),
            (i in self.copies[:, 0], "a copy of another"),
            (True, self.verdicts[i].why),
            (i in self.idle, "adds nothing"),
        ):
            if said and words:
                return words
        return ""


def advise(
    why: Explanation,
    embeddings: np.ndarray,
    names: list[str] | None = None,
    rules: Rules = RULES,
    looks: Looks = NOTHING_KNOWN,
) -> Advice:
    """Derives advice from an explanation.

    Args:
      why: the explanation of N faces.
      embeddings: [N, D] float32 unit rows, the explained faces.
      names: N names of the faces, for the sentences; 'face 0', 'face 1', ... when None.
      rules: the thresholds.
      looks: what is known of the pictures.
    """
    names = [f"face {i}" for i in range(len(why))] if names is None else names
    size = len(why.picks)
    to_picks = np.maximum.accumulate(embeddings[why.picks] @ embeddings.T, axis=0)
    covered = np.sum(to_picks >= rules.covered, axis=1)
    odd = why.agreement < rules.stranger
    low = why.norms < rules.poor * np.median(why.norms)
    idle = np.zeros(0, np.int64)
    if why.change is not None:
        idle = np.setdiff1d(np.flatnonzero((why.change < rules.idle) & ~odd), why.picks)
    repeats = np.zeros(0, np.int64) if why.media is None else _repeats(why.media, why.picks)
    copies = _copies(embeddings, rules.copy)
    strangers, poor = np.flatnonzero(odd & ~low), np.flatnonzero(odd & low)

    verdicts = judge(embeddings, why.norms, why.agreement, names, why.media, looks, rules)

    lines = [_coverage(covered, len(why), rules)]
    for k in repeats:
        twin = next(p for p in why.picks[:k] if why.media[p] == why.media[why.picks[k]])
        lines.append(
            f"Picks {list(why.picks).index(twin) + 1} and {k + 1} come from the same clip: "
            f"{names[why.picks[k]]} was farther from the earlier picks ({why.distances[k]:.3g}) than any "
            "face from a medium not yet picked."
        )
    if len(why) == 2 and len(strangers):
        lines.append(
            f"{names[0]} and {names[1]} look like two different people (cosine {why.agreement[0]:.2f})."
        )
    else:
        lines += [
            f"{names[i]} looks like someone else (cosine {why.agreement[i]:.2f} to the mean of the others)."
            for i in strangers
        ]
    lines += [f"{names[i]} is too degraded to tell whose face it is (norm {why.norms[i]:.3g})." for i in poor]
    for copy, first in copies[:_LISTED]:
        lines.append(f"{names[copy]} is a copy of {names[first]}, or very nearly: keep one of them.")
    if len(copies) > _LISTED:
        lines.append(f"{len(copies) - _LISTED} more faces are copies of others.")
    said = set(copies[:, 0].tolist())
    lines += verdict_lines(verdicts, names, why.picks, why.media, looks, rules, said)
    if len(idle) == 1:
        lines.append(f"{names[idle[0]]} adds nothing: leaving it out barely changes the descriptor.")
    elif len(idle):
        useless = listed([names[i] for i in idle])
        lines.append(
            f"{useless} each add nothing: leaving out any one of them barely changes the descriptor."
        )
    found = len(idle) + len(strangers) + len(poor) + len(copies)
    found += sum(verdict.kind == "duplicate" for verdict in verdicts)
    uncovered = covered[-1] < rules.cover * len(why)  # else some could be spared
    if size < len(why) and why.change is not None and not found and uncovered:
        lines.append("Every face adds something.")
    return Advice(strangers, poor, idle, covered, copies, repeats, verdicts, tuple(lines))


def _copies(embeddings: np.ndarray, cosine: float) -> np.ndarray:
    """See `Advice.copies`."""
    found = []
    for start in range(0, len(embeddings), _ROWS_AT_ONCE):
        alike = embeddings[start : start + _ROWS_AT_ONCE] @ embeddings.T >= cosine
        first = alike.argmax(axis=1)
        rows = np.arange(start, start + len(alike))
        found.append(np.stack([rows, first], 1)[alike.any(axis=1) & (first < rows)])
    return np.concatenate(found)


def _coverage(covered: np.ndarray, count: int, rules: Rules) -> str:
    """A sentence on how many faces the picks represent."""
    size, need = len(covered), rules.cover * count
    if size == count:
        return f"All {count} faces are picked." if count > 1 else "The only face is picked."
    enough = np.flatnonzero(covered >= need)
    if len(enough):
        k = int(enough[0]) + 1
        picks, one = ("1 pick covers", "it") if k == 1 else (f"{k} picks cover", "at least one of them")
        return f"{picks} the set: {covered[k - 1]} of {count} faces are similar to {one}."
    missed = count - covered[-1]
    picks = "the pick" if size == 1 else f"any of the {size} picks"
    return (
        f"{missed} of {count} faces {'is' if missed == 1 else 'are'} not similar to {picks} "
        f"(cosine below {rules.covered:g})."
    )


def _repeats(media: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """See `Advice.repeats`."""
    kinds = len(np.unique(media))
    return np.array(
        [
            k
            for k in range(1, len(picks))
            if media[picks[k]] in media[picks[:k]] and len(np.unique(media[picks[:k]])) < kinds
        ],
        np.int64,
    )
