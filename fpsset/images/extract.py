"""Extraction: every image of a folder through a backbone, into one feature file."""

import pathlib
import shutil
from collections.abc import Iterator

import grain
import jax
import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.data.files import read_npz, require_writable, write_features
from fpsset.errors import InputError
from fpsset.images.aligned_faces import read_face, require_libraries
from fpsset.images.augmentation import augment
from fpsset.images.color_order import check_color_order
from fpsset.images.image_files import UnreadableImage
from fpsset.images.listing import ImageList, list_images
from fpsset.images.recognisers import Recogniser, load_recogniser
from fpsset.models.iresnet import IMAGE_SIZE
from fpsset.runtime.digests import short_digest
from fpsset.runtime.files import replacing
from fpsset.runtime.progress import StepProgress

_PART = ("rows", "embeddings", "norms", "bad_rows", "bad_reasons")
_SHOWN = 10  # unreadable images that are named on the terminal


def extract(config) -> FeatureTable:
    """Embeds the images of `config.images` and writes `config.out`.

    What is done is kept in parts beside the file, so that an interrupted run goes on; they are deleted
    when the file is there. Images that cannot be read are listed at the end, and in a file beside.

    Args:
      config: as `fpsset.config.extraction_config` lists it.

    Returns:
      What was written.

    Raises:
      InputError: no images, no backbone, or no image that can be read.
    """
    out = pathlib.Path(config.out)
    require_writable(out)
    images = list_images(pathlib.Path(config.images), config.landmarks, config.media_pattern)
    require_libraries(aligns=images.landmarks is not None)
    recogniser = load_recogniser(config)
    if images.ignored:
        StepProgress.say(
            f"{images.root}: {len(images.ignored)} other files left aside, e.g. {images.ignored[0]}"
        )
    parts = _claim_parts(out, images, recogniser, config)
    if config.check_color_order and not any(parts.glob("*.npz")):
        check_color_order(images.subject, lambda row: _read(images, row), recogniser)
    per_part = config.batch_size * config.batches_per_part
    starts = range(0, len(images), per_part)
    files = [parts / f"{start:09}.npz" for start in starts]
    for file in files:
        if file.is_file() and not _is_good(file, images):
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
                with replacing(file) as beside:
                    np.savez(beside, **part)
    table = _join(images, files, recogniser, out, config)
    shutil.rmtree(parts)
    return table


def _embed_part(
    images: ImageList, rows: range, recogniser: Recogniser, config, progress: StepProgress
) -> dict[str, np.ndarray]:
    """The columns of a part: batches of one shape through the backbone, decoded ahead by threads."""

    def read(row: int) -> dict:
        try:
            return {"row": row, "face": _read(images, row), "problem": ""}
        except UnreadableImage as error:
            return {"row": row, "face": None, "problem": str(error)}

    options = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=4 * config.batch_size)
    dataset = grain.MapDataset.source(rows).map(read).to_iter_dataset(options)
    columns = {"rows": [], "embeddings": [], "norms": []}
    bad = []
    faces, waiting = np.zeros((config.batch_size, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8), []

    def flush() -> None:
        found = [recogniser(view) for view in _views(faces, waiting, config)]
        embeddings, norms = (np.stack(values, 1)[: len(waiting)] for values in zip(*found, strict=True))
        columns["rows"].append(np.repeat(np.array(waiting, np.int64), len(found)))
        columns["embeddings"].append(embeddings.reshape(-1, embeddings.shape[-1]).astype(np.float16))
        columns["norms"].append(norms.reshape(-1).astype(np.float32))
        waiting.clear()

    for number, item in enumerate(dataset, 1):
        if item["problem"]:
            bad.append((item["row"], item["problem"]))
        else:
            faces[len(waiting)] = item["face"]
            waiting.append(item["row"])
        if len(waiting) == config.batch_size:
            flush()
        if number % config.batch_size == 0 or number == len(rows):
            progress.advance(f"{len(bad)} unreadable in this part")
    if waiting:
        flush()
    return {
        **{name: np.concatenate(values) if values else np.zeros(0) for name, values in columns.items()},
        "bad_rows": np.array([row for row, _ in bad], np.int64),
        "bad_reasons": np.array([reason for _, reason in bad], str),
    }


def _views(faces: np.ndarray, rows: list[int], config) -> Iterator[np.ndarray]:
    """The faces as they are, and mirrored if asked for; or frames of clips of them, each by its own keys."""
    if not config.augmented:
        yield faces
        if config.flip:
            yield faces[:, :, ::-1]
        return
    row = np.resize(np.array(rows, np.int32), len(faces))  # what the last batch lacks is dropped later
    key, count = jax.random.key(config.seed), config.augmented * config.clip_frames
    for view in range(count):
        clip = row * config.augmented + view // config.clip_frames
        yield 255 * np.asarray(_augment(key, faces, clip, row * count + view))


_augment = jax.jit(augment)


def _read(images: ImageList, row: int) -> np.ndarray:
    """The aligned face of a row; raises UnreadableImage."""
    marks = None if images.landmarks is None else images.landmarks[row]
    return read_face(images.root / images.paths[row], marks)


def _is_good(file: pathlib.Path, images: ImageList) -> bool:
    """Whether a part is whole, and what it lists as unreadable still is."""
    try:
        part = read_npz(file, _PART)
    except InputError:  # cut short by a power cut
        return False
    if set(part) != set(_PART):
        return False
    for row in part["bad_rows"]:
        try:
            _read(images, row)
        except UnreadableImage:
            continue
        return False
    return True


def _join(
    images: ImageList, files: list[pathlib.Path], recogniser: Recogniser, out: pathlib.Path, config
) -> FeatureTable:
    """All parts as one table, written; unreadable images are said and listed beside it."""
    parts = [read_npz(file, _PART) for file in files]
    bad = [
        f"{images.paths[row]}: {reason}"
        for part in parts
        for row, reason in zip(part["bad_rows"], part["bad_reasons"], strict=True)
    ]
    listing = out.with_name(f"{out.stem}.unreadable.txt")
    if bad:
        with replacing(listing) as beside:
            beside.write_text("".join(f"{line}\n" for line in bad))
        for line in bad[:_SHOWN]:
            StepProgress.say(f"unreadable: {line}")
        StepProgress.say(f"{len(bad)} of {len(images)} images are not in {out}; all are listed in {listing}")
    else:
        listing.unlink(missing_ok=True)
    parts = [part for part in parts if len(part["rows"])]
    if not parts:
        raise InputError(f"{images.root}: none of {len(images)} images could be read; see {listing}")
    rows = np.concatenate([part["rows"] for part in parts])
    norms = np.concatenate([part["norms"] for part in parts])
    embeddings = np.concatenate([part["embeddings"] for part in parts])
    flipped = None
    if config.flip:  # views follow each other
        flipped = embeddings[1::2] * norms[1::2, None]
        rows, norms, embeddings = rows[::2], norms[::2], embeddings[::2]
    if len(norms) > 1 and np.ptp(norms) < 1e-3 * norms.max():
        StepProgress.say(
            "warning: all norms are equal: the network normalises its output, its quality is lost"
        )
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
    """The folder of parts; those of other images or settings are dropped."""
    parts = out.with_name(f".{out.name}.parts")
    claim, fingerprint = parts / "of", _fingerprint(images, recogniser, config)
    if not (claim.is_file() and claim.read_text() == fingerprint):
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        claim.write_text(fingerprint)
    return parts


def _fingerprint(images: ImageList, recogniser: Recogniser, config) -> str:
    """Changes with anything that the parts depend on."""

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
