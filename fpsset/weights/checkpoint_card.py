"""What is written beside the arrays of a run's checkpoint, and how damage to any of them is told.

A checkpoint is a folder that Orbax writes: `state` (arrays), `data` (the position in the data), `card` (the
model's card and the checksums of its parameters) and, if it was validated, `metrics` (its score).
"""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fpsset.errors import InputError, first_line
from fpsset.runtime.digests import SEAL, seal, unsealed
from fpsset.runtime.files import read_json
from fpsset.weights.cards import AggregatorCard, make_card

# 3 seals the card and the position; 2 had only checksums of the arrays, 1 a position of each process.
FORMAT = 3
SCORE = "score"  # the metric that the best checkpoint is chosen by
_FIX = "give another checkpoint"
# How Orbax's libraries begin or word errors that say nothing against the files.
_PASSING = (
    *("PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"),
    *("ABORTED", "CANCELLED", "Permission denied", "Too many open files", "Cannot allocate memory"),
    *("can't start new thread", "out of memory", "Out of memory", "Input/output error"),
    *("Stale file handle", "timed out"),
)


class LaterVersion(InputError):
    """The checkpoint is of a format that is not known here."""


class CheckpointCard(NamedTuple):
    """A checkpoint's card.

    Attributes:
      card: of the model.
      score: on held-out people; None if it was saved without a validation.
      params: from `params_listing`; None in checkpoints of 0.1.
    """

    card: AggregatorCard
    score: float | None
    params: list | None


def score_of(metrics: dict[str, float]) -> float:
    """A checkpoint's score on held-out people; the best checkpoint has the highest."""
    return metrics[SCORE]


def params_listing(params: Any, sums: Sequence[int]) -> list:
    """[name, dtype, shape, checksum] of each array, as JSON.

    Args:
      params: a model's tree of arrays.
      sums: their checksums; see `word_sums`.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [
        [jax.tree_util.keystr(path), str(leaf.dtype), list(leaf.shape), int(total)]
        for (path, leaf), total in zip(leaves, sums, strict=True)
    ]


def word_sums(tree: Any) -> list[int]:
    """The checksum of each array: the sum of its 32-bit words, modulo 2^32."""
    arrays = map(np.ascontiguousarray, jax.tree.leaves(tree))
    return [int(array.view(np.uint32).sum(dtype=np.uint32)) for array in arrays]


def to_json(card: AggregatorCard, score: float | None, params: list) -> dict:
    """The sealed content of a checkpoint's card."""
    return seal({"format": FORMAT, "card": dataclasses.asdict(card), SCORE: score, "params": params})


def read_checkpoint_card(checkpoint: pathlib.Path) -> CheckpointCard:
    """Reads a checkpoint's card and score.

    Raises:
      InputError: it cannot be read, differs from what was saved, or is of a later version.
    """
    path = checkpoint / "card/metadata"
    fields = read_json(path, _FIX)
    if SEAL in fields or fields.get("format") not in (1, 2):
        fields = unsealed(fields, str(path), _FIX)
    version = fields.pop("format", None)
    if version not in (1, 2, FORMAT):
        raise LaterVersion(f"{checkpoint}: was written by a later version of fpsset; upgrade to it")
    score = _read_score(checkpoint)
    try:
        if version < FORMAT:
            return CheckpointCard(make_card(AggregatorCard, fields), score, None)
        found = CheckpointCard(make_card(AggregatorCard, fields["card"]), fields[SCORE], fields["params"])
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{path}: is not a card of fpsset ({error}); {_FIX}") from error
    if found.score != score:
        raise InputError(f"{checkpoint}: its metrics differ from what was saved; {_FIX}")
    return found


def read_position(checkpoint: pathlib.Path) -> dict:
    """Reads {'batches': position in the data, 'sums': checksums of all arrays}.

    Raises:
      InputError: it cannot be read, or differs from what was saved.
    """
    path = checkpoint / "data/metadata"
    fields = read_json(path, _FIX)
    sealed = SEAL in fields or SEAL in read_json(checkpoint / "card/metadata", _FIX)
    fields = unsealed(fields, str(path), _FIX) if sealed else fields
    if fields.keys() != {"batches", "sums"}:
        raise InputError(f"{path}: is not a position in the data of fpsset; {_FIX}")
    return fields


def _read_score(checkpoint: pathlib.Path) -> float | None:
    path = checkpoint / "metrics/metrics"
    if not path.parent.exists():
        return None
    fields = read_json(path, _FIX)
    score = fields.get(SCORE)
    if fields.keys() != {SCORE} or type(score) not in (int, float) or not math.isfinite(score):
        raise InputError(f"{path}: holds no score; {_FIX}")
    return score


def problem_of(error: Exception) -> str:
    """What an error in reading a checkpoint says, without how to mend it."""
    return str(error).rpartition(";")[0] if isinstance(error, InputError) else first_line(error)


def is_damage(error: Exception) -> bool:
    """Whether an error in reading a file speaks against its content.

    Memory that does not suffice, a network that is away or a file that may not be read does not.
    """
    link: BaseException | None = error
    while link is not None:  # libraries wrap one error in another
        missing = isinstance(link, FileNotFoundError | NotADirectoryError | IsADirectoryError)
        if isinstance(link, MemoryError | ImportError | LaterVersion | OSError) and not missing:
            return False
        if any(words in str(link) for words in _PASSING):
            return False
        link = link.__cause__ or link.__context__
    return True
