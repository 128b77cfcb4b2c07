"""Extracts features: embeds every image of a folder into one feature file, and can be interrupted."""

import pathlib
import shutil
from collections.abc import Iterator

import grain
import jax
import numpy as np

from fpsset.data.columns import checked_columns
from fpsset.data.feature_table import FeatureTable
from fpsset.data.files import require_writable, write_features
from fpsset.data.npz import read_npz, write_npz
from fpsset.errors import InputError
from fpsset.images.aligned_faces import UnreadableImage, read_face, require_libraries
from fpsset.images.augmentation import augment
from fpsset.images.color_order import check_color_order
from fpsset.images.listing import ImageList, list_images
from fpsset.images.recognisers import NOT_EMBEDDED, Recogniser, embedded, load_recogniser
from fpsset.models.iresnet import IMAGE_SIZE
from fpsset.runtime.digests import short_digest
from fpsset.runtime.disk import writing
from fpsset.runtime.files import replacing
from fpsset.runtime.locks import sole_use
from fpsset.runtime.progress import StepProgress

# Columns of a part, see `checked_columns`.
_PART = {
    **{"rows": "iu M", "embeddings": "f M D", "norms": "f M"},
    **{"bad_rows": "iu B", "bad_reasons": "U B"},
}
_SHOWN = 10  # how many unreadable images are named on the terminal


def extract(config) -> FeatureTable:
    """Embeds the images of `config.images` and writes `config.out`.

    Progress is saved in parts next to the file, so that an interrupted run can continue; the parts are
    deleted once the file is written. Two extractions to one file are refused. Unreadable images are reported
    at the end, and listed in a file next to the features.

    Args:
      config: see `fpsset.config.extraction_config`.

    Returns:
      The features written.

    Raises:
      InputError: there are no images, there is no backbone, no image can be read, or another process extracts
        to the same file.
    """
    out = pathlib.Path(config.out)
    require_writable(out)
    images = list_images(pathlib.Path(config.images), config.landmarks, config.media_pattern)
    require_libraries(aligns=images.landmarks is not None)
    recogniser = load_recogniser(config)
    if ignored := images.said_ignored():
        StepProgress.say(ignored)
    with sole_use(out, "--config.out"):
        return _extract(images, recogniser, out, config)


def _extract(images: ImageList, recogniser: Recogniser, out: pathlib.Path, config) -> FeatureTable:
    parts = _claim_parts(out, images, recogniser, config)
    if config.check_color_order and not any(parts.glob("*.npz")):
        check_color_order(images.subject, lambda row: _read(images, row), recogniser)
    per_part = config.batch_size * config.batches_per_part
    starts = range(0, len(images), per_part)
    files = [parts / f"{start:09}.npz" for start in starts]
    for file in files:
        if file.is_file() and not _is_valid_part(file, images, int(file.stem), config):
            file.unlink()
    done = sum(file.is_file() for file in files)
    batches = -(-len(images) // config.batch_size)
    with StepProgress(
        batches, min(done * config.batches_per_part, batches), config.batch_size, "extraction", "images"
    ) as progress:
        for start, file in zip(starts, files, strict=True):
            if not file.is_file():
                part = _embed_part(
                    images, range(start, min(start + per_part, len(images))), recogniser, config, progress
                )
                with writing(out, "the images embedded so far are kept"):
                    write_npz(file, part)
    table = _join_parts(images, files, recogniser, out, config)
    shutil.rmtree(parts)
    return table


def _embed_part(
    images: ImageList, rows: range, recogniser: Recogniser, config, progress: StepProgress
) -> dict[str, np.ndarray]:
    """Embeds the rows of a part in batches of one shape, while threads decode ahead."""

    def read(row: int) -> dict:
        try:
            return {"row": row, "face": _read(images, row), "problem": ""}
        except UnreadableImage as error:
            return {"row": row, "face": None, "problem": str(error)}

    options = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=4 * config.batch_size)
    dataset = grain.MapDataset.source(rows).map(read).to_iter_dataset(options)
    columns = {"rows": [], "embeddings": [], "norms": []}
    bad = []
    faces, pending = np.zeros((config.batch_size, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8), []

    def flush() -> None:
        found = [recogniser(view) for view in _views(faces, pending, config)]
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
            progress.advance(f"{len(bad)} unreadable in this part")
    if pending:
        flush()
    empty = {"rows": np.zeros(0, np.int64), "embeddings": np.zeros((0, 0), np.float16)}
    bad.sort()
    return {
        **{name: np.concatenate(v) if v else empty.get(name, np.zeros(0)) for name, v in columns.items()},
        "bad_rows": np.array([row for row, _ in bad], np.int64),
        "bad_reasons": np.array([reason for _, reason in bad], str),
    }


def _views(faces: np.ndarray, rows: list[int], config) -> Iterator[np.ndarray]:
    """Yields the faces, then their mirror images with `config.flip`; or augmented frames of clips of them."""
    if not config.augmented:
        yield faces
        if config.flip:
            yield faces[:, :, ::-1]
        return
    row = np.resize(np.array(rows, np.int32), len(faces))  # the caller drops what fills up the last batch
    key, count = jax.random.key(config.seed), config.augmented * config.clip_frames
    for view in range(count):
        clip = row * config.augmented + view // config.clip_frames
        yield 255 * np.asarray(_augment(key, faces, clip, row * count + view))


_augment = jax.jit(augment)


def _read(images: ImageList, row: int) -> np.ndarray:
    """Reads the aligned face of a row; raises UnreadableImage."""
    landmarks = None if images.landmarks is None else images.landmarks[row]
    return read_face(images.root / images.paths[row], landmarks)


def _read_part(file: pathlib.Path) -> dict[str, np.ndarray]:
    return checked_columns(read_npz(file, tuple(_PART)), _PART, str(file), "delete it")


def _is_valid_part(file: pathlib.Path, images: ImageList, start: int, config) -> bool:
    """Whether a part is complete, and the images it lists as unreadable still are."""
    try:
        part = _read_part(file)
    except InputError:  # damaged, perhaps by a power failure
        return False
    views = config.augmented * config.clip_frames if config.augmented else 1 + bool(config.flip)
    wanted = np.arange(start, min(start + config.batch_size * config.batches_per_part, len(images)))
    rows = np.concatenate([part["rows"][::views], part["bad_rows"]])
    if not np.array_equal(np.sort(rows), wanted) or len(part["rows"]) % views:
        return False
    for row, reason in zip(part["bad_rows"], part["bad_reasons"], strict=True):
        if reason == NOT_EMBEDDED:  # the same network would say so again
            continue
        try:
            _read(images, row)
        except UnreadableImage:
            continue
        return False
    return True


def _join_parts(
    images: ImageList, files: list[pathlib.Path], recogniser: Recogniser, out: pathlib.Path, config
) -> FeatureTable:
    """Writes all parts as one feature file; reports unreadable images, and lists them next to it."""
    parts = [_read_part(file) for file in files]
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
    if len(norms) > 1 and np.ptp(norms) < 1e-3 * norms.max():
        StepProgress.say("warning: all norms are equal; use a network that does not normalise its embeddings")
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


def _claim_parts(out: pathlib.Path, images: ImageList, recogniser: Recogniser, config) -> pathlib.Path:
    """The folder of parts, emptied first if they were made from other images or settings."""
    parts = out.with_name(f".{out.name}.parts")
    owner, fingerprint = parts / "of", _fingerprint(images, recogniser, config)
    if not (owner.is_file() and owner.read_bytes() == fingerprint.encode()):
        shutil.rmtree(parts, ignore_errors=True)
        with writing(out):
            parts.mkdir(parents=True)
            owner.write_text(fingerprint)
    return parts


def _fingerprint(images: ImageList, recogniser: Recogniser, config) -> str:
    """A short hash of everything that the parts depend on."""

    def state(path: str) -> str:
        try:
            stat = (images.root / path).stat()
        except OSError:
            return f"{path} missing\n"
        return f"{path} {stat.st_size} {stat.st_mtime_ns}\n"

    landmarks = b"" if images.landmarks is None else images.landmarks
    fields = (recogniser.card.digest, config.dtype, config.batch_size, config.batches_per_part)
    fields += (config.augmented, config.clip_frames, config.seed, config.flip)
    return short_digest(*map(state, images.paths), landmarks, repr(fields))
