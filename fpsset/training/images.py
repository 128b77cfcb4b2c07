"""Training from images: a frozen backbone embeds augmented clips before each step."""

import functools

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from fpsset.data.feature_table import FeatureTable, held_out, require_people
from fpsset.data.pipeline import TemplateLaw
from fpsset.errors import InputError
from fpsset.images.aligned_faces import UnreadableImage, require_libraries
from fpsset.images.augmentation import style_of
from fpsset.images.embedding import embed
from fpsset.images.image_pipeline import image_batches
from fpsset.images.image_sources import ImageSource, read_crop
from fpsset.models.iresnet import IMAGE_SIZE
from fpsset.parallel.mesh import gather_to_host, process_rows, put_batch
from fpsset.runtime.digests import short_digest
from fpsset.runtime.progress import StepProgress
from fpsset.training.clips import clips_to_sets
from fpsset.training.faces import TrainingFaces, norm_scale, template_law
from fpsset.training.step import stream_key
from fpsset.weights.cards import BackboneCard

_SHOWN = 10  # unreadable images that are listed
_SAMPLE_SEED = 1 << 31  # keeps the draws of the sample apart from those of training


def faces_of_images(
    config: ConfigDict, source: ImageSource, card: BackboneCard, variables: dict, mesh: Mesh
) -> TrainingFaces:
    """Training input from aligned crops.

    Every image is decoded once beforehand, so that damaged ones are reported and left out now rather than
    found hours later. Held-out people's images are then embedded without augmentation, and the mean of their
    norms sets the norm scale.

    Args:
      config: checked configuration.
      source: crops of training and validation people.
      card: of the backbone.
      variables: of the backbone, on the device.
      mesh: of the devices to train on.

    Raises:
      InputError: fewer than four people with readable images, norms that cannot be scaled, or a batch size
        that is not a multiple of the device count.
    """
    require_libraries(aligns=False)
    ours = process_rows(config.batch_size, mesh)
    require_people(source, 4)
    rows = _readable_rows(source, config)
    out = held_out(source.subject[rows], config.data.holdout, config.seed)
    dtype = jnp.dtype(config.backbone.dtype)
    plain = _embed_rows(source, rows[out], card, variables, config)
    scale = norm_scale(plain, config.data.norm_mean)
    seen = rows[~out]
    people = len(np.unique(source.subject[seen]))
    parts = (source.fingerprint(), card.digest, str(dtype))
    root, law = jax.random.key(config.seed), template_law(config)
    embed_batch = functools.partial(
        clips_to_sets,
        jax.device_put(variables, NamedSharding(mesh, P())),
        norm_scale=scale,
        card=card,
        dtype=dtype,
        at_once=config.backbone.batch_size,
        mesh=mesh,
        style=style_of(config.recipe),
    )

    def batches(seed: int, law: TemplateLaw, rows: np.ndarray) -> grain.DatasetIterator:
        how = law, IMAGE_SIZE, config.data.threads, rows, config.recipe.variation == "image"
        return image_batches(source, seen, config.batch_size, seed, *how)

    def sample() -> FeatureTable:
        # Drawn in the same way as the training batches, but independently of them, and each person once.
        in_turn = law._replace(by_image=False, epoch=1.0)
        drawn = batches((config.seed + _SAMPLE_SEED) % 2**32, in_turn, ours)
        embed_sample = functools.partial(embed_batch, root=stream_key(root, "sample"))
        return _one_template_each(drawn, embed_sample, people, config, mesh)

    return TrainingFaces(
        mesh=mesh,
        batches=batches(config.seed, law, ours),
        to_sets=functools.partial(embed_batch, root=root),
        sample=sample,
        everyone=sample,
        held_out=plain.with_norm_scale(scale),
        people=people,
        images=len(seen),
        dim=plain.dim,
        norm_scale=scale,
        backbone=card.digest,
        fingerprint=short_digest(repr(parts)),
        summary=f"{len(seen)} images of {people} people",
    )


def _one_template_each(
    batches: grain.DatasetIterator, embed_batch, people: int, config: ConfigDict, mesh: Mesh
) -> FeatureTable:
    """One augmented template per person."""
    parts, count = [], -(-people // config.batch_size)
    with StepProgress(count, 0, config.batch_size, "faces for the initial model", "templates") as progress:
        for number in range(count):
            drawn = put_batch(next(batches), mesh)
            sets, labels = embed_batch(drawn, number)
            template = (number * config.batch_size + np.arange(len(labels)))[:, None]
            medium = drawn.medium + config.data.max_size * template
            parts.append(gather_to_host((sets.embeddings, sets.norms, sets.mask, labels, medium), mesh))
            progress.advance("")
    embeddings, norms, mask, labels, medium = map(np.concatenate, zip(*parts, strict=True))
    subject = np.broadcast_to(labels[:, None], mask.shape)
    return FeatureTable(
        embeddings[mask], norms[mask], subject[mask], medium[mask], name="the training images"
    )


def _readable_rows(source: ImageSource, config: ConfigDict) -> np.ndarray:
    """Rows of the images that can be decoded; reports the others."""

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
        StepProgress.say(
            f"warning: {len(bad)} of {len(source)} images of {source.name} cannot be read and are left out"
        )
    if people < 4:
        raise InputError(
            f"{source.name}: shows {people} people in readable images; training needs at least 4"
        )
    return rows


def _embed_rows(
    source: ImageSource, rows: np.ndarray, card: BackboneCard, variables: dict, config: ConfigDict
) -> FeatureTable:
    """Embeds images without augmentation."""
    size, dtype = config.backbone.batch_size, jnp.dtype(config.backbone.dtype)
    faces = _threaded(rows, lambda row: read_crop(source, row, IMAGE_SIZE), config)
    blank = jax.ShapeDtypeStruct((1, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.float32)
    dim = jax.eval_shape(lambda images: embed(variables, images, dtype), blank)[0].shape[1]
    embeddings, norms = [np.zeros((0, dim), np.float32)], [np.zeros(0, np.float32)]
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
    """An iterator over function(row), computed ahead in threads."""
    options = grain.ReadOptions(num_threads=config.data.threads, prefetch_buffer_size=256)
    return iter(grain.MapDataset.source(rows).map(function).to_iter_dataset(options))


def _progress(images: int, config: ConfigDict, title: str) -> StepProgress:
    size = config.backbone.batch_size
    return StepProgress(-(-images // size), 0, size, title, "images")
