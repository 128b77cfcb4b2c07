"""Explanations in words, by stated rules."""

import dataclasses

import numpy as np

from fpsset.inference.explanation import Explanation


@dataclasses.dataclass(frozen=True)
class Rules:
    """When what is said of a face or a set. The cosines suit embeddings of face recognisers.

    On stills and degraded copies of 485 people, from a MobileFaceNet, `stranger` caught 96% of single faces
    of somebody else put into a set, and named 3% of the person's own, half of them to be too poor to tell.

    Attributes:
      covered: least cosine of a face to its pick, for the pick to stand for it.
      cover: share of the faces that picks must stand for to cover the set.
      idle: a face that is no pick adds nothing when leaving it out changes the descriptor by less
        (1 - cosine).
      stranger: a face whose cosine to the norm-weighted mean of the others is less looks like someone else,
      poor: or is too poor to tell, where its norm is less than this share of the set's median.
    """

    covered: float = 0.5
    cover: float = 0.9
    idle: float = 0.001
    stranger: float = 0.2
    poor: float = 0.8

    def sentences(self) -> tuple[str, ...]:
        """The rules in words."""
        return (
            f"A pick stands for faces whose cosine to it is {self.covered:g} or more; picks cover a set when "
            f"they stand for {self.cover:.0%} of its faces.",
            f"A face that is no pick adds nothing when the descriptor with and without it differ by less "
            f"than {self.idle:g} (1 - cosine).",
            f"A face looks like someone else when its cosine to the norm-weighted mean of the others is "
            f"below {self.stranger:g}; it is too poor to tell when its norm is also below {self.poor:g} of "
            "the set's median.",
        )


RULES = Rules()


@dataclasses.dataclass(frozen=True)
class Advice:
    """What follows from an explanation.

    Attributes:
      strangers: [n] int64, faces that look like someone else.
      poor: [n] int64, faces too poor to tell whose they are.
      idle: [n] int64, faces that add nothing; empty where `change` was not asked for.
      covered: [K] int64, faces that the first 1, 2, ... K picks stand for.
      repeats: [n] int64, positions of picks whose medium was picked before while another was not.
      lines: all of it in words.
    """

    strangers: np.ndarray
    poor: np.ndarray
    idle: np.ndarray
    covered: np.ndarray
    repeats: np.ndarray
    lines: tuple[str, ...]

    def to_dict(self) -> dict:
        """The fields as plain Python values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: v.tolist() if isinstance(v, np.ndarray) else list(v) for name, v in fields.items()}

    def of_face(self, i: int) -> str:
        """What is said of one face, in a few words; empty where nothing is."""
        for rows, words in (
            (self.strangers, "looks like someone else"),
            (self.poor, "too poor to tell whose face it is"),
            (self.idle, "adds nothing"),
        ):
            if i in rows:
                return words
        return ""


def advise(
    why: Explanation, embeddings: np.ndarray, names: list[str] | None = None, rules: Rules = RULES
) -> Advice:
    """What to make of an explanation.

    Args:
      why: of N faces.
      embeddings: [N, D] unit rows, those explained.
      names: of the faces, for the words; their numbers when None.
      rules: thresholds.
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
    strangers, poor = np.flatnonzero(odd & ~low), np.flatnonzero(odd & low)

    lines = [_coverage(covered, len(why), rules)]
    for k in repeats:
        twin = next(p for p in why.picks[:k] if why.media[p] == why.media[why.picks[k]])
        lines.append(
            f"Picks {list(why.picks).index(twin) + 1} and {k + 1} come from one clip: {names[why.picks[k]]} "
            f"lay farther from the picks before it ({why.distances[k]:.3g}) than any face of the media "
            "not yet picked."
        )
    if len(why) == 2 and len(strangers):
        lines.append(f"{names[0]} and {names[1]} look like two people (cosine {why.agreement[0]:.2f}).")
    else:
        lines += [
            f"{names[i]} looks like someone else (cosine {why.agreement[i]:.2f} to the others)."
            for i in strangers
        ]
    lines += [f"{names[i]} is too poor to tell whose face it is (norm {why.norms[i]:.3g})." for i in poor]
    if len(idle):
        listed = ", ".join(names[i] for i in idle[:4]) + (f" and {len(idle) - 4} more" * (len(idle) > 4))
        verb = "adds" if len(idle) == 1 else "each add"
        lines.append(f"{listed} {verb} nothing: without {_it(idle)} the descriptor stays nearly the same.")
    if size < len(why) and why.change is not None and not len(idle) and not len(strangers) and not len(poor):
        lines.append("Every face adds something.")
    return Advice(strangers, poor, idle, covered, repeats, tuple(lines))


def _it(rows: np.ndarray) -> str:
    return "it" if len(rows) == 1 else "any one of them"


def _coverage(covered: np.ndarray, count: int, rules: Rules) -> str:
    size, need = len(covered), rules.cover * count
    if size == count:
        return f"All {count} faces are picks." if count > 1 else "The only face is the pick."
    enough = np.flatnonzero(covered >= need)
    if len(enough):
        k = int(enough[0]) + 1
        picks = "1 pick covers" if k == 1 else f"{k} picks cover"
        return f"{picks} the set: {covered[k - 1]} of {count} faces are like {'it' if k == 1 else 'one'}."
    who = "The pick leaves" if size == 1 else f"{size} picks leave"
    them = "it" if size == 1 else "any of them"
    return f"{who} {count - covered[-1]} of {count} faces unlike {them} (cosine below {rules.covered:g})."


def _repeats(media: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """Positions of picks that repeat a medium while another has not been picked."""
    kinds = len(np.unique(media))
    return np.array(
        [
            k
            for k in range(1, len(picks))
            if media[picks[k]] in media[picks[:k]] and len(np.unique(media[picks[:k]])) < kinds
        ],
        np.int64,
    )
