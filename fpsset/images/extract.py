"""Extracts features: embeds every image of a folder into one feature file, and can be interrupted.

Several processes share out the parts of the images: each embeds its own, on its own devices, and the first
joins all of them.
"""

import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import grain
import jax
import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.data.files import require_writable
from fpsset.data.npz import write_npz
from fpsset.errors import InputError
from fpsset.images.aligned_faces import UnreadableImage, mirrored, require_libraries
from fpsset.images.augmentation import augment, style_of
from fpsset.images.color_order import check_color_order
from fpsset.images.extract_photos import extract_photos
from fpsset.images.joining import join_parts
from fpsset.images.listing import ImageList, list_images
from fpsset.images.parts import Parts, read_row
from fpsset.images.recognisers import NOT_EMBEDDED, Recogniser, embedded, load_recogniser
from fpsset.models.iresnet import IMAGE_SIZE
from fpsset.runtime import hosts
from fpsset.runtime.apart import Apart
from fpsset.runtime.digests import short_digest
from fpsset.runtime.disk import writing
from fpsset.runtime.locks import sole_use
from fpsset.runtime.progress import StepProgress


def extract(config, devices: Sequence[jax.Device] | None = None) -> FeatureTable | None:
    """Embeds the images of `config.images` and writes `config.out`.

    With `config.detector` the images are photos and videos, in which faces are found first; see
    `extract_photos`.

    Progress is saved in parts next to the file, so that an interrupted run can continue, with any number of
    processes and devices; the parts are deleted once the file is written. Two extractions to one file are
    refused. Unreadable images are reported at the end, and listed in a file next to the features.

    Args:
      config: see `fpsset.config.extraction_config`.
      devices: of this process, which share every batch; None: all of them.

    Returns:
      The features written; None on all processes but the first.

    Raises:
      InputError: there are no images, there is no backbone, no image can be read, another process extracts
        to the same file, or one of the processes that share the work failed.
    """
    if config.detector:
        return extract_photos(config)
    out = pathlib.Path(config.out)

    def prepared() -> tuple[ImageList, Recogniser]:
        require_writable(out)
        options = config.landmarks, config.media_pattern, config.folder_is_video
        images = list_images(pathlib.Path(config.images), *options)
        require_libraries(aligns=images.landmarks is not None)
        return images, load_recogniser(config, devices)

    images, recogniser = hosts.together(prepared)
    seen = hosts.said(short_digest(repr(images.paths), recogniser.card.digest, repr(config.to_dict())))
    if len(set(seen)) > 1:
        raise InputError(
            f"{images.root}: the processes see other images, weights or settings there; start all of them "
            "with the same command, on folders that all share"
        )
    if ignored := images.said_ignored():
        StepProgress.say(ignored)
    with ExitStack() as stack:
        hosts.on_first_process(lambda: stack.enter_context(sole_use(out, "--config.out")))
        return _extract(images, recogniser, out, config)


def _extract(images: ImageList, recogniser: Recogniser, out: pathlib.Path, config) -> FeatureTable | None:
    parts = Parts(out, images, config)
    hosts.on_first_process(lambda: parts.claim(recogniser))
    fresh = hosts.is_first() and not parts.any()
    claim = hosts.said(parts.claimed_by() if hosts.is_first() else "")[0]
    hosts.together(lambda: parts.require_claimed_by(claim))
    with Apart(parts.folder) as others:
        if config.check_color_order and fresh:
            check_color_order(images.subject, lambda row: read_row(images, row), recogniser)
        _embed_own(images, recogniser, parts, out, config, others)
        others.done()
        if not hosts.is_first():
            others.wait(lambda: not parts.claimed_by())  # until they are joined
            return None
        others.wait()
        table = join_parts(images, parts.files, recogniser, out, config)
        shutil.rmtree(parts.folder)
        return table


def _embed_own(
    images: ImageList, recogniser: Recogniser, parts: Parts, out: pathlib.Path, config, others: Apart
) -> None:
    """Embeds this process's share of the parts, without those that are there."""
    own = others.share(parts.files)
    for file in own:
        if file.is_file() and not parts.is_valid(file):
            file.unlink()
    missing = [file for file in own if not file.is_file()]
    total, left = (sum(-(-len(parts.rows(file)) // config.batch_size) for file in f) for f in (own, missing))
    # The rate is that of all processes, as if the others were as fast as this one.
    at_once = config.batch_size * jax.process_count()
    with StepProgress(total, total - left, at_once, "extraction", "images") as progress:

        def advance(note: str) -> None:
            progress.advance(note)
            others.check()

        for file in missing:
            part = _embed_part(images, parts.rows(file), recogniser, config, advance)
            with writing(out, "the images embedded so far are kept"):
                write_npz(file, part)


def _embed_part(
    images: ImageList, rows: range, recogniser: Recogniser, config, advance: Callable[[str], None]
) -> dict[str, np.ndarray]:
    """Embeds the rows of a part in batches of few shapes, while threads decode ahead."""

    def read(row: int) -> dict:
        try:
            return {"row": row, "face": read_row(images, row), "problem": ""}
        except UnreadableImage as error:
            return {"row": row, "face": None, "problem": str(error)}

    options = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=4 * config.batch_size)
    dataset = grain.MapDataset.source(rows).map(read).to_iter_dataset(options)
    columns = {"rows": [], "embeddings": [], "norms": []}
    bad = []
    faces, pending = np.zeros((config.batch_size, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8), []

    def flush() -> None:
        points = recogniser.keypoints(None if images.landmarks is None else images.landmarks[pending])
        views = _views(faces, pending, points, config)
        count = recogniser.rows(len(pending), len(faces))
        found = [recogniser(view[:count], keypoints=where) for view, where in views]
        embeddings, norms = (np.stack(values, 1)[: len(pending)] for values in zip(*found, strict=True))
        good = embedded(embeddings, norms).all(axis=1)  # in every view
        bad.extend((row, NOT_EMBEDDED) for row, kept in zip(pending, good, strict=True) if not kept)
        embeddings, norms, rows_kept = embeddings[good], norms[good], np.array(pending, np.int64)[good]
        columns["rows"].append(np.repeat(rows_kept, len(found)))
        columns["embeddings"].append(embeddings.reshape(-1, embeddings.shape[-1]).astype(np.float16))
        columns["norms"].append(norms.reshape(-1).astype(np.float32))
        pending.clear()

    for number, item in enumerate(dataset, 1):
        if item["problem"]:
            bad.append((item["row"], item["problem"]))
        else:
            faces[len(pending)] = item["face"]
            pending.append(item["row"])
        if len(pending) == config.batch_size:
            flush()
        if number % config.batch_size == 0 or number == len(rows):
            advance(f"{len(bad)} unreadable in this part")
    if pending:
        flush()
    empty = {"rows": np.zeros(0, np.int64), "embeddings": np.zeros((0, 0), np.float16)}
    bad.sort()
    return {
        **{name: np.concatenate(v) if v else empty.get(name, np.zeros(0)) for name, v in columns.items()},
        "bad_rows": np.array([row for row, _ in bad], np.int64),
        "bad_reasons": np.array([reason for _, reason in bad], str),
    }


def _views(
    faces: np.ndarray, rows: list[int], keypoints: np.ndarray | None, config
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yields the faces, then their mirror images with `config.flip`; or augmented frames of clips of them.

    With them come the keypoints of the faces where they are known; those of augmented frames are not.
    """
    if not config.augmented:
        yield faces, keypoints
        if config.flip:
            yield faces[:, :, ::-1], None if keypoints is None else mirrored(keypoints)
        return
    row = np.resize(np.array(rows, np.int32), len(faces))  # the caller drops what fills up the last batch
    key, count = jax.random.key(config.seed), config.augmented * config.clip_frames
    style = style_of(config)
    for view in range(count):
        clip = row * config.augmented + view // config.clip_frames
        yield 255 * np.asarray(_augment(key, faces, clip, row * count + view, style)), None


_augment = jax.jit(augment, static_argnums=4)
