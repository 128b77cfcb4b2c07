"""FeatureTable: validated rows of face embeddings with norms, people and media, whatever their source."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from fpsset.data.rows import checked_column, checked_ids, numbered_ids, unit_rows
from fpsset.errors import InputError, refuse_rows
from fpsset.face_set import RaggedSets, group_rows
from fpsset.runtime.digests import short_digest
from fpsset.runtime.progress import StepProgress

REQUIRED = ("embeddings", "norms", "subject", "media")
OPTIONAL = ("template", "seed", "paths", "score", "flipped")
PLACE = ("time", "box")  # optional too: where in a video or photo a face is, which no dataset keeps
UNKNOWN_SUBJECT = -1


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """M faces: embeddings, norms and what is known about each face.

    Attributes:
      embeddings: [M, D] float32 unit rows.
      norms: [M] float32, >= 0.
      subject: [M] int64 person ids; `UNKNOWN_SUBJECT` where the person is unknown.
      media: [M] int64 ids of the still or video that each face comes from.
      template: optional [M] int64 ids of the set that each face belongs to.
      seed: optional [M] int64; rows with the same seed are frames made from the same image or clip.
      paths: optional [M] str, image paths.
      score: optional [M] float32 face-detector confidence, >= 0.
      flipped: optional [M, D] float32 embeddings of the mirrored images, not normalised.
      time: optional [M] float64 seconds from the start of the video; NaN for photos.
      box: optional [M, 4] float32 pixels of the upright image: left, top, width, height.
      backbone: digest of the weights that computed the embeddings; empty if unknown.
      name: source of the faces, for error messages.
      labels: column -> [n] str, the sorted names that its numbers stand for; only of columns of names.
    """

    embeddings: np.ndarray
    norms: np.ndarray
    subject: np.ndarray
    media: np.ndarray
    template: np.ndarray | None = None
    seed: np.ndarray | None = None
    paths: np.ndarray | None = None
    score: np.ndarray | None = None
    flipped: np.ndarray | None = None
    time: np.ndarray | None = None
    box: np.ndarray | None = None
    backbone: str = ""
    name: str = "features"
    labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.norms)

    @property
    def dim(self) -> int:
        """D, the embedding width."""
        return self.embeddings.shape[1]

    @property
    def sources(self) -> np.ndarray:
        """[M] int64 ids of what near-identical frames share: `seed` if present, otherwise `media`."""
        return self.media if self.seed is None else self.seed

    def take(self, rows: np.ndarray) -> "FeatureTable":
        """Selects rows, by indices or by a bool mask."""
        columns = {c: getattr(self, c) for c in (*REQUIRED, *OPTIONAL, *PLACE)}
        return dataclasses.replace(self, **{c: v[rows] for c, v in columns.items() if v is not None})

    def named(self, column: str) -> np.ndarray:
        """A column of ids as it was given: [M] int64, or [M] str, empty where unknown."""
        ids = getattr(self, column)
        if column not in self.labels:
            return ids
        return np.where(ids < 0, "", self.labels[column][np.maximum(ids, 0)])

    def with_norm_scale(self, factor: float) -> "FeatureTable":
        """Returns the table with every norm multiplied by `factor`."""
        return dataclasses.replace(self, norms=self.norms * np.float32(factor))

    def fingerprint(self) -> str:
        """A short hash of everything that training depends on; equal tables have equal fingerprints."""
        names = ("embeddings", "norms", "subject", "media", "seed")
        columns = {name: getattr(self, name) for name in names}
        return short_digest(*(name if values is None else values for name, values in columns.items()))


def make_table(
    columns: dict[str, np.ndarray], name: str, held: tuple[str, ...] | None = None
) -> FeatureTable:
    """Validates raw columns and builds a table from them; embeddings are scaled to unit length.

    Args:
      columns: arrays by column name; unknown names are ignored. 'backbone' is one string for all rows.
      name: source of the columns, for error messages.
      held: the names of all columns that the source has, for error messages; those given when None.

    Returns:
      FeatureTable.

    Raises:
      InputError: a column is missing or malformed, a value is out of range (the message names the row),
        or a template spans two subjects.
    """
    for column in REQUIRED:
        if column not in columns:
            held = ", ".join(sorted(columns if held is None else held)) or "none"
            raise InputError(
                f"{name}: no column '{column}' (it has: {held}); feature files need the columns "
                f"{', '.join(REQUIRED)}, by these names"
            )
    embeddings, norms = unit_rows(columns["embeddings"], columns["norms"], name)
    rows = len(embeddings)
    ids, labels = {}, {}
    for column in ("subject", "media", "template"):
        if column in columns:
            ids[column], names = numbered_ids(columns[column], column, rows, name, UNKNOWN_SUBJECT)
            labels |= {} if names is None else {column: names}
    if "seed" in columns:
        ids["seed"] = checked_ids(columns["seed"], "seed", rows, name)
    others: dict[str, np.ndarray] = {}
    if "paths" in columns:
        others["paths"] = checked_column(columns["paths"], "paths", "U", rows, name)
    if "score" in columns:
        with np.errstate(over="ignore"):  # refused below
            score = checked_column(columns["score"], "score", "fiu", rows, name).astype(np.float32)
        others["score"] = score
        bad = ~((others["score"] >= 0) & np.isfinite(others["score"]))
        refuse_rows(bad, "score", "is negative or not finite; leave the row out, or the column", name)
    if "flipped" in columns:
        flipped = np.asarray(columns["flipped"])
        if flipped.shape != embeddings.shape or flipped.dtype.kind != "f":
            raise InputError(
                f"{name}: 'flipped' must be float {list(embeddings.shape)}, like 'embeddings', not "
                f"{flipped.dtype} {list(flipped.shape)}"
            )
        with np.errstate(over="ignore"):
            flipped = flipped.astype(np.float32, copy=False)
        refuse_rows(~np.isfinite(flipped).all(1), "flipped", "holds a value that is not finite", name)
        others["flipped"] = flipped
    if "time" in columns:
        others["time"] = checked_column(columns["time"], "time", "f", rows, name).astype(np.float64)
        bad = ~((others["time"] >= 0) | np.isnan(others["time"]))
        refuse_rows(bad, "time", "is negative; leave the row out, or the column", name)
    if "box" in columns:
        box = np.asarray(columns["box"])
        if box.shape != (rows, 4) or box.dtype.kind not in "fiu":
            raise InputError(f"{name}: 'box' must be numbers [{rows}, 4], not {box.dtype} {list(box.shape)}")
        with np.errstate(over="ignore"):  # refused below
            others["box"] = box.astype(np.float32, copy=False)
        refuse_rows(~np.isfinite(others["box"]).all(1), "box", "holds a value that is not finite", name)
    backbone = str(columns.get("backbone", ""))
    table = FeatureTable(embeddings, norms, backbone=backbone, name=name, labels=labels, **ids, **others)
    if table.template is not None:
        check_templates(table)
    return table


def known_people(table: FeatureTable) -> FeatureTable:
    """Leaves out the faces of nobody known, whose subject is negative, and says how many there are.

    Raises:
      InputError: no face is left.
    """
    unknown = table.subject < 0
    if not unknown.any():
        return table
    if unknown.all():
        raise InputError(
            f"{table.name}: column 'subject' is negative in every row, so it names nobody; of photos, give "
            "fpsset faces a folder per person, or --one-person"
        )
    StepProgress.say(
        f"{table.name}: {int(unknown.sum())} of {len(table)} faces are left out: their subject is negative, "
        "so they are of nobody known"
    )
    return table.take(~unknown)


def require_people(table: FeatureTable, count: int = 2) -> None:
    """Raises InputError unless every subject is known and there are at least `count` of them."""
    refuse_rows(table.subject < 0, "subject", "is negative (unknown); remove the row", table.name)
    people = len(np.unique(table.subject))
    if people < count:
        raise InputError(
            f"{table.name}: column 'subject' holds {people} subject(s); at least {count} are needed"
        )


def templates(table: FeatureTable) -> tuple[np.ndarray, np.ndarray, RaggedSets]:
    """Groups faces into the templates to evaluate.

    Without a template column, each subject's media alternate between two templates: every person with
    at least two media has a genuine pair, and no medium is in two templates.

    Args:
      table: the faces of T templates.

    Returns:
      ([T] int64 sorted template ids, [T] int64 their subjects, the T sets in that order).
    """
    ids = table.template
    if ids is None:
        # Rank of each medium within its subject.
        pairs, codes = np.unique(np.stack([table.subject, table.media], 1), axis=0, return_inverse=True)
        first = np.searchsorted(pairs[:, 0], pairs[:, 0], side="left")
        rank = (np.arange(len(pairs)) - first)[codes.reshape(-1)]
        people = np.unique(table.subject, return_inverse=True)[1]
        ids = 2 * people + rank % 2
    unique, sets = group_rows(table.embeddings, table.norms, ids, table.media)
    return unique, table.subject[sets.rows[sets.starts[:-1]]], sets


def split_people(table: FeatureTable, fraction: float, seed: int) -> tuple[FeatureTable, FeatureTable]:
    """Splits a table by people, so that no subject is on both sides.

    Args:
      table: faces of at least four known subjects.
      fraction: share of the subjects to hold out, in [0, 1); above 0, at least two are held out and two kept.
      seed: random seed.

    Returns:
      (the faces kept, the faces held out).

    Raises:
      InputError: there are fewer than four subjects, or one is unknown.
    """
    require_people(table, 4)
    out = held_out(table.subject, fraction, seed)
    return table.take(~out), table.take(out)


def held_out(subject: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The rows that `split_people` holds out: [M] bool."""
    if not fraction:
        return np.zeros(len(subject), bool)
    people = np.unique(subject)
    count = int(np.clip(round(fraction * len(people)), 2, len(people) - 2))
    held = np.random.default_rng([seed, len(people)]).permutation(people)[:count]
    return np.isin(subject, held)


def check_templates(table: FeatureTable) -> None:
    """Raises InputError if a template spans two subjects."""
    pairs = np.unique(np.stack([table.template, table.subject], 1), axis=0)
    repeated = np.flatnonzero(pairs[1:, 0] == pairs[:-1, 0])
    if len(repeated):
        template, first = pairs[repeated[0]]
        second = pairs[repeated[0] + 1, 1]
        template = table.labels["template"][template] if "template" in table.labels else template
        if "subject" in table.labels:
            first, second = (table.labels["subject"][code] for code in (first, second))
        raise InputError(
            f"{table.name}: template {template} spans subjects {first} and {second}; "
            "give each person's faces their own templates"
        )
