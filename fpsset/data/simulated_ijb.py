"""Simulates IJB-B and IJB-C: synthetic faces in the official file layout, with the official counts."""

import pathlib
import pickle
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from fpsset.data.synthetic import draw_faces
from fpsset.errors import InputError
from fpsset.runtime.files import replacing_folder

_PEOPLE_AT_ONCE = 64  # bounds memory: faces are drawn in float64
_LOG_SIZE_STD = 1.5  # standard deviation of the log of template sizes
_LONGEST_CLIP = 15
_HEADER = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID\n"


class Counts(NamedTuple):
    """The size of a protocol."""

    subjects: int
    first_gallery: int  # subjects in the first gallery; the others are in the second
    templates: int
    faces: int
    pairs: int
    genuine: int


OFFICIAL = {
    "ijbb": (("S1", "S2"), Counts(1845, 931, 12_115, 227_630, 8_010_270, 10_270)),
    "ijbc": (("G1", "G2"), Counts(3531, 1772, 23_124, 469_375, 15_658_489, 19_557)),
}


def simulate_ijb(
    out: pathlib.Path, like: str = "ijbc", scale: float = 1.0, seed: int = 0, dim: int = 512
) -> Counts:
    """Writes `out`/meta and `out`/IJBx-features.pickle, which `read_ijb` and the official code can read.

    One template of each subject is in a gallery and the others are probes. Template sizes are long-tailed,
    ids are not contiguous, and every pair consists of a gallery and a probe template.

    Args:
      out: a folder that does not exist yet.
      like: 'ijbb' or 'ijbc'.
      scale: factor applied to all counts, in (0, 4].
      seed: random seed.
      dim: D, at least 2.

    Returns:
      The counts written.

    Raises:
      InputError: `out` exists, or an argument is out of range.
    """
    require_new_simulation(out, like, OFFICIAL, scale, seed, dim)
    galleries, official = OFFICIAL[like]
    counts = _scaled(official, scale)
    rng = np.random.default_rng([seed, counts.faces, dim])
    subject = _template_subjects(rng, counts)
    template, media = _faces(rng, subject, counts)
    ids = 1 + np.sort(rng.choice(4 * counts.templates, counts.templates, replace=False))
    ids = ids[rng.permutation(counts.templates)]  # spreads the templates of a subject over the ids
    with replacing_folder(out) as temporary:
        meta = temporary / "meta"
        meta.mkdir()
        names = np.char.add(np.arange(1, counts.faces + 1).astype(str), ".jpg")
        lines = map("{} {} {}\n".format, names.tolist(), ids[template].tolist(), (3 * media + 1).tolist())
        (meta / f"{like}_face_tid_mid.txt").write_text("".join(lines))
        _write_pairs(meta / f"{like}_template_pair_label.txt", rng, subject, ids, counts)
        gallery = np.arange(counts.subjects)
        parts = {
            f"gallery_{galleries[0]}": gallery[: counts.first_gallery],
            f"gallery_{galleries[1]}": gallery[counts.first_gallery :],
            "probe_mixed": np.arange(counts.subjects, counts.templates),
        }
        for name, rows in parts.items():
            lines = (f"{ids[row]},{subject[row] + 1},img/{row}.png,{row}\n" for row in rows.tolist())
            (meta / f"{like}_1N_{name}.csv").write_text(_HEADER + "".join(lines))
        content = _features(subject[template], media, counts, seed, dim)
        with (temporary / f"{like.upper()}-features.pickle").open("wb") as file:
            pickle.dump(content, file, protocol=5)
    return counts


def require_new_simulation(
    out: pathlib.Path, like: str, known: Collection[str], scale: float, seed: int, dim: int
) -> None:
    """Checks the arguments of a simulation of one of the `known` protocols; raises InputError."""
    if out.exists():
        raise InputError(f"{out}: exists already; give a new folder")
    if like not in known:
        raise InputError(f"like is {like!r}; it must be one of {', '.join(known)}")
    if not (0 < scale <= 4 and dim >= 2 and seed >= 0):
        raise InputError(
            f"scale {scale}, dim {dim}, seed {seed}: they must be in (0, 4], at least 2 and at least 0"
        )


def _scaled(official: Counts, scale: float) -> Counts:
    subjects, first, templates, faces, pairs, genuine = (max(1, round(scale * count)) for count in official)
    subjects = max(subjects, 4)
    first = min(max(first, 1), subjects - 1)
    templates = max(templates, 2 * subjects)
    faces = max(faces, templates)
    genuine = min(genuine, templates - subjects)
    # There are no more impostor pairs of a gallery and a probe template than this.
    impostors = min(pairs - genuine, (subjects - 1) * (templates - subjects))
    return Counts(subjects, first, templates, faces, genuine + impostors, genuine)


def _template_subjects(rng: np.random.Generator, counts: Counts) -> np.ndarray:
    """[T] subjects: one gallery template each, one probe each, and the other probes at random."""
    people = np.arange(counts.subjects)
    other_probes = rng.integers(0, counts.subjects, counts.templates - 2 * counts.subjects)
    return np.concatenate([people, people, other_probes])


def long_tailed_sizes(rng: np.random.Generator, templates: int, faces: int) -> np.ndarray:
    """Draws template sizes in log-normal proportions: [templates] int64, each at least 1, of sum `faces`."""
    weights = np.exp(_LOG_SIZE_STD * rng.standard_normal(templates))
    return 1 + rng.multinomial(faces - templates, weights / weights.sum())


def _faces(rng: np.random.Generator, subject: np.ndarray, counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Template index and medium of each face, sorted by subject."""
    sizes = long_tailed_sizes(rng, counts.templates, counts.faces)
    order = np.argsort(subject, kind="stable")
    template = np.repeat(order, sizes[order])
    # Stills and clips alternate at random; the end of a template cuts a clip.
    clips = rng.integers(3, _LONGEST_CLIP + 1, counts.faces)
    lengths = np.where(rng.random(counts.faces) < 0.5, 1, clips)
    starts = np.zeros(counts.faces, bool)
    ends = np.cumsum(lengths)
    starts[ends[ends < counts.faces]] = True
    starts[1:] |= template[1:] != template[:-1]
    return template, np.cumsum(starts)


def _write_pairs(path: pathlib.Path, rng, subject: np.ndarray, ids: np.ndarray, counts: Counts) -> None:
    """Writes the pair list, shuffled; an impostor pair is drawn as one code, gallery * probes + probe."""
    probes = np.arange(counts.subjects, counts.templates)
    genuine = rng.choice(probes, counts.genuine, replace=False)
    wanted, codes = counts.pairs - counts.genuine, np.empty(0, np.int64)
    total = counts.subjects * len(probes)
    while len(codes) < wanted:
        if 2 * wanted > total:  # rejection sampling would be slow when most pairs are needed
            drawn = np.arange(total)
        else:
            drawn = rng.integers(0, total, int(1.1 * (wanted - len(codes))) + 100)
        drawn = drawn[drawn // len(probes) != subject[probes[drawn % len(probes)]]]
        codes = np.unique(np.concatenate([codes, drawn]))
    codes = rng.permutation(codes)[:wanted]
    first = np.concatenate([subject[genuine], codes // len(probes)])
    second = np.concatenate([genuine, probes[codes % len(probes)]])
    rows = np.stack([ids[first], ids[second], np.arange(counts.pairs) < counts.genuine], 1)
    rows = rows[rng.permutation(len(rows))]
    with path.open("w") as file:
        for start in range(0, len(rows), 1 << 18):
            part = rows[start : start + (1 << 18)].tolist()
            file.write("".join(f"{a} {b} {same}\n" for a, b, same in part))


def _features(
    subject: np.ndarray, media: np.ndarray, counts: Counts, seed: int, dim: int
) -> dict[str, np.ndarray]:
    """The contents of the official pickle; `subject` must be sorted."""
    embeddings = np.empty((counts.faces, dim), np.float32)
    norms = np.empty(counts.faces, np.float32)
    cosine = np.empty(counts.faces, np.float32)
    for first in range(0, counts.subjects, _PEOPLE_AT_ONCE):
        last = min(first + _PEOPLE_AT_ONCE, counts.subjects)
        rows = slice(*np.searchsorted(subject, (first, last)))
        _, firsts, lengths = np.unique(media[rows], return_index=True, return_counts=True)
        rng = np.random.default_rng([seed, counts.faces, dim, first])
        faces = draw_faces(rng, subject[rows][firsts] - first, lengths, last - first, dim)
        embeddings[rows], norms[rows], cosine[rows] = faces
    return {"img_feats": embeddings, "norms": norms[:, None], "faceness_scores": cosine}
