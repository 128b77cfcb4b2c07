"""Turns clips of images into face sets: augments and embeds them on the device, with a frozen backbone."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from fpsset.data.pipeline import TrainingBatch
from fpsset.face_set import FaceSet
from fpsset.images.augmentation import Style, augment
from fpsset.images.embedding import embed
from fpsset.images.image_pipeline import ImageBatch
from fpsset.ops.masking import zero_padding
from fpsset.parallel.mesh import AXIS
from fpsset.training.step import stream_key
from fpsset.weights.cards import BackboneCard

_STYLE = Style()


@functools.partial(jax.jit, static_argnames=("card", "dtype", "at_once", "mesh", "style"))
def clips_to_sets(
    variables: dict,
    batch: ImageBatch,
    step: jax.Array | int,
    root: jax.Array,
    norm_scale: jax.Array | float,
    card: BackboneCard,
    dtype: jnp.dtype = jnp.float32,
    at_once: int = 64,
    mesh: Mesh | None = None,
    style: Style = _STYLE,
) -> TrainingBatch:
    """Augments and embeds the frames of a batch; padded slots are skipped and stay zero.

    Each device processes its own templates. Random draws depend on their positions in the whole batch, so
    results do not depend on the number of devices.

    Args:
      variables: of the backbone.
      batch: B templates of N slots.
      step: int32 scalar, at which the random stream 'augment' is folded from `root`.
      root: key of the run.
      norm_scale: factor of the norms.
      card: of the backbone.
      dtype: of the backbone's convolutions.
      at_once: frames embedded together.
      mesh: of the devices that hold the batch by rows; None for one device.
      style: of the augmentation.

    Returns:
      TrainingBatch of float32.
    """
    variables, key = lax.stop_gradient(variables), stream_key(root, "augment", step)
    embed_clips = functools.partial(_embed_clips, card=card, dtype=dtype, at_once=at_once, style=style)
    first = jnp.arange(len(batch.labels))  # each device's shard starts at its first position
    if mesh is not None and mesh.size > 1:
        specs = (P(), P(), P(AXIS), P(AXIS))
        # The loop's length differs by device, which the replication check rejects; nothing is reduced here.
        embed_clips = jax.shard_map(
            embed_clips, mesh=mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False
        )
    face_set = embed_clips(variables, key, first, batch)
    return TrainingBatch(face_set.replace(norms=face_set.norms * norm_scale), batch.labels)


def _embed_clips(
    variables: dict,
    key: jax.Array,
    places: jax.Array,
    batch: ImageBatch,
    card: BackboneCard,
    dtype: jnp.dtype,
    at_once: int,
    style: Style,
) -> FaceSet:
    """Embeds templates at consecutive `places` of the whole batch."""
    slots = batch.mask.size
    at_once = min(at_once, slots)
    first = places[0] * batch.mask.shape[1]  # number of the first slot in the whole batch
    template = jnp.arange(slots) // batch.mask.shape[1]
    clip = template * batch.mask.shape[1] + batch.clip.reshape(-1)
    images = jnp.asarray(batch.images).reshape(-1, *batch.images.shape[2:])
    order = jnp.argsort(~batch.mask.reshape(-1), stable=True)  # real frames first

    def embed_some(group: jax.Array, done: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        # dynamic_slice clamps the start of the last group; frames embedded twice come out the same.
        frames = lax.dynamic_slice(order, (group * at_once,), (at_once,))
        faces = augment(key, images[clip[frames]], first + clip[frames], first + frames, style)
        found = embed(variables, card.normalize(255 * faces), dtype)
        return tuple(into.at[frames].set(values) for into, values in zip(done, found, strict=True))

    dim = jax.eval_shape(lambda: embed(variables, jnp.zeros((1, *images.shape[1:])), dtype))[0].shape[1]
    groups = -(-batch.mask.sum() // at_once)
    empty = jnp.zeros((slots, dim)), jnp.zeros(slots)
    embeddings, norms = lax.fori_loop(0, groups, embed_some, empty)
    # The last group may include padded slots; their results are zeroed here.
    mask = jnp.asarray(batch.mask)
    embeddings, norms = embeddings.reshape(*mask.shape, dim), norms.reshape(mask.shape)
    same = (batch.medium[:, :, None] == batch.medium[:, None, :]) & mask[:, None, :]
    frames = jnp.sum(same, axis=-1, dtype=jnp.float32)
    faces = zero_padding(embeddings, mask), zero_padding(norms, mask)
    return FaceSet(*faces, mask, frames, media=batch.medium)
