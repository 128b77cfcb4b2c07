"""Joins the parts of an extraction to one feature file."""

import pathlib

import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.data.files import write_features
from fpsset.errors import InputError
from fpsset.images.listing import ImageList
from fpsset.images.parts import read_part
from fpsset.images.recognisers import Recogniser, warn_of_equal_norms
from fpsset.runtime.files import replacing
from fpsset.runtime.progress import StepProgress

_SHOWN = 10  # how many unreadable images are named on the terminal


def join_parts(
    images: ImageList, files: list[pathlib.Path], recogniser: Recogniser, out: pathlib.Path, config
) -> FeatureTable:
    """Writes all parts as one feature file; reports unreadable images, and lists them next to it."""
    parts = [read_part(file) for file in files]
    bad = [
        f"{images.paths[row]}: {reason}"
        for part in parts
        for row, reason in zip(part["bad_rows"], part["bad_reasons"], strict=True)
    ]
    listing = out.with_name(f"{out.stem}.unreadable.txt")
    if bad:
        with replacing(listing) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in bad))
        for line in bad[:_SHOWN]:
            StepProgress.say(f"unreadable: {line}")
        StepProgress.say(f"{len(bad)} of {len(images)} images are not in {out}; see {listing}")
    else:
        listing.unlink(missing_ok=True)
    parts = [part for part in parts if len(part["rows"])]
    if not parts:
        raise InputError(f"{images.root}: none of {len(images)} images could be embedded; see {listing}")
    rows = np.concatenate([part["rows"] for part in parts])
    norms = np.concatenate([part["norms"] for part in parts])
    embeddings = np.concatenate([part["embeddings"] for part in parts])
    flipped = None
    if config.flip:  # each face is followed by its mirror image
        flipped = embeddings[1::2] * norms[1::2, None]
        rows, norms, embeddings = rows[::2], norms[::2], embeddings[::2]
    warn_of_equal_norms(norms)
    seed = None
    if config.augmented:
        view = np.arange(len(rows)) % (config.augmented * config.clip_frames)
        seed = rows * config.augmented + view // config.clip_frames
    table = FeatureTable(
        embeddings=embeddings,
        norms=norms,
        subject=images.subject[rows],
        media=images.media[rows],
        seed=seed,
        template=None if images.template is None else images.template[rows],
        paths=np.array(images.paths, str)[rows],
        score=None if images.score is None else images.score[rows],
        flipped=flipped,
        backbone=recogniser.card.digest,
        name=str(out),
    )
    write_features(out, table)
    return table
