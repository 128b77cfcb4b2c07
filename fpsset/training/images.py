"""Training from images: clips are augmented and embedded by a frozen backbone ahead of each step."""

import functools
import hashlib

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from fpsset.data.augmentation import augment
from fpsset.data.feature_table import FeatureTable, held_out, require_people
from fpsset.data.image_files import UnreadableImage, require_pillow
from fpsset.data.image_pipeline import ImageBatch, ImageSource, image_batches, read_crop
from fpsset.data.pipeline import TrainingBatch
from fpsset.embedding import embed
from fpsset.errors import InputError
from fpsset.face_set import FaceSet
from fpsset.models.iresnet import IMAGE_SIZE
from fpsset.progress import StepProgress
from fpsset.training.faces import TrainingFaces, norm_scale
from fpsset.training.state import stream_key
from fpsset.weights import BackboneCard

_SHOWN = 10  # unreadable images that are named


def faces_of_images(
    config: ConfigDict, source: ImageSource, card: BackboneCard, variables: dict
) -> TrainingFaces:
    """The faces of aligned crops.

    Every image is decoded once beforehand, so that a damaged one is named now and left out rather than
    met after hours. Held-out people's are embedded then, as they are. Norms are scaled by the mean over
    these.

    Args:
      config: checked configuration.
      source: validation people included.
      card: of the backbone.
      variables: of the backbone, on the device.

    Raises:
      InputError: fewer than four people with images that can be read, or norms that cannot be scaled.
    """
    require_pillow()
    require_people(source, 4)
    rows = _readable(source, config)
    out = held_out(source.subject[rows], config.data.holdout, config.seed)
    dtype = jnp.dtype(config.backbone.dtype)
    plain = _embed_rows(source, rows[out], card, variables, config)
    scale = norm_scale(plain, config.data.norm_mean)
    seen = rows[~out]
    people = len(np.unique(source.subject[seen]))
    parts = (source.fingerprint(), card.digest, str(dtype))
    to_sets = functools.partial(
        clips_to_sets,
        variables,
        root=jax.random.key(config.seed),
        norm_scale=scale,
        card=card,
        dtype=dtype,
        at_once=config.backbone.batch_size,
    )
    return TrainingFaces(
        batches=image_batches(
            source,
            seen,
            config.batch_size,
            config.seed,
            config.data.max_size,
            config.data.max_clip,
            IMAGE_SIZE,
            config.data.threads,
        ),
        to_sets=to_sets,
        held_out=plain.with_norm_scale(scale),
        people=people,
        dim=plain.dim,
        norm_scale=scale,
        backbone=card.digest,
        fingerprint=hashlib.sha256(repr(parts).encode()).hexdigest()[:16],
        summary=f"{len(seen)} images of {people} people",
    )


@functools.partial(jax.jit, static_argnames=("card", "dtype", "at_once"))
def clips_to_sets(
    variables: dict,
    batch: ImageBatch,
    step: jax.Array | int,
    root: jax.Array,
    norm_scale: jax.Array | float,
    card: BackboneCard,
    dtype: jnp.dtype = jnp.float32,
    at_once: int = 64,
) -> TrainingBatch:
    """Augments and embeds the frames of a batch; padded slots are not computed, and are zero.

    Args:
      variables: of the backbone.
      batch: B templates of N slots.
      step: int32 scalar; the stream 'augment' is folded from the root at it.
      root: key of the run.
      norm_scale: factor of the norms.
      card: of the backbone.
      dtype: of its convolutions.
      at_once: frames that are embedded together; what is not needed of the last such group is empty work.

    Returns:
      TrainingBatch of float32.
    """
    variables = lax.stop_gradient(variables)
    slots = batch.mask.size
    at_once = min(at_once, slots)
    key = stream_key(root, "augment", step)
    template = jnp.arange(slots) // batch.mask.shape[1]
    clip = template * batch.mask.shape[1] + batch.clip.reshape(-1)
    images = jnp.asarray(batch.images).reshape(-1, *batch.images.shape[2:])
    order = jnp.argsort(~batch.mask.reshape(-1), stable=True)  # real frames first

    def embed_some(group: jax.Array, done: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        # The last group starts earlier where it would not fit; what it does again comes out the same.
        frames = lax.dynamic_slice(order, (group * at_once,), (at_once,))
        faces = augment(key, images[clip[frames]], clip[frames], frames)
        found = embed(variables, card.normalize(255 * faces), dtype)
        return tuple(into.at[frames].set(values) for into, values in zip(done, found, strict=True))

    dim = jax.eval_shape(lambda: embed(variables, jnp.zeros((1, *images.shape[1:])), dtype))[0].shape[1]
    groups = -(-batch.mask.sum() // at_once)
    empty = jnp.zeros((slots, dim)), jnp.zeros(slots)
    embeddings, norms = lax.fori_loop(0, groups, embed_some, empty)
    # The last group's frames may be padding: they were computed, and are wiped here.
    mask = jnp.asarray(batch.mask)
    face_set = FaceSet(
        jnp.where(mask[..., None], embeddings.reshape(*mask.shape, dim), 0),
        jnp.where(mask, norms.reshape(mask.shape) * norm_scale, 0),
        mask,
    )
    return TrainingBatch(face_set, batch.labels)


def _readable(source: ImageSource, config: ConfigDict) -> np.ndarray:
    """Rows of the images that decode; the others are said."""

    def check(row: int) -> dict:
        try:
            read_crop(source, row, IMAGE_SIZE)
        except UnreadableImage as error:
            return {"row": row, "problem": str(error)}
        return {"row": row, "problem": ""}

    bad = {}
    with _progress(len(source), config, "checking") as progress:
        for number, item in enumerate(_threaded(range(len(source)), check, config), 1):
            if item["problem"]:
                bad[item["row"]] = item["problem"]
            if number % config.backbone.batch_size == 0:
                progress.advance(f"{len(bad)} unreadable")
    for row in sorted(bad)[:_SHOWN]:
        StepProgress.say(f"unreadable: {source.place(row)}: {bad[row]}")
    rows = np.setdiff1d(np.arange(len(source)), np.array(sorted(bad), np.int64))
    people = len(np.unique(source.subject[rows]))
    if bad:
        StepProgress.say(f"warning: {len(bad)} of {len(source)} images of {source.name} are left out")
    if people < 4:
        raise InputError(f"{source.name}: shows {people} people in images that can be read; training needs 4")
    return rows


def _embed_rows(
    source: ImageSource, rows: np.ndarray, card: BackboneCard, variables: dict, config: ConfigDict
) -> FeatureTable:
    """The images as they are, embedded."""
    size, dtype = config.backbone.batch_size, jnp.dtype(config.backbone.dtype)
    faces = _threaded(rows, lambda row: read_crop(source, row, IMAGE_SIZE), config)
    embeddings, norms = [], []
    with _progress(len(rows), config, "validation people") as progress:
        for start in range(0, len(rows), size):
            some = [next(faces) for _ in rows[start : start + size]]
            batch = np.zeros((size, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
            batch[: len(some)] = some
            found = jax.device_get(embed(variables, card.normalize(batch), dtype))
            embeddings.append(found[0][: len(some)])
            norms.append(found[1][: len(some)])
            progress.advance("")
    return FeatureTable(
        embeddings=np.concatenate(embeddings),
        norms=np.concatenate(norms),
        subject=source.subject[rows],
        media=source.media[rows],
        backbone=card.digest,
        name=source.name,
    )


def _threaded(rows, function, config: ConfigDict):
    """An iterator over function(row), computed ahead by threads."""
    options = grain.ReadOptions(num_threads=config.data.threads, prefetch_buffer_size=256)
    return iter(grain.MapDataset.source(rows).map(function).to_iter_dataset(options))


def _progress(images: int, config: ConfigDict, title: str) -> StepProgress:
    size = config.backbone.batch_size
    return StepProgress(-(-images // size), 0, size, title, "images")
