"""The head's softmax over classes that are split over devices."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P

from fpsset.models.margin_heads import HeadTerms, class_cosines, margin_logits
from fpsset.parallel.mesh import AXIS

_NEVER = -1e30


def margin_cross_entropy(
    head: nn.Module,
    terms: HeadTerms,
    descriptor: jax.Array,
    labels: jax.Array,
    mesh: Mesh | AbstractMesh | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of margin logits, of which each device computes those of its own columns.

    With l the logits of a row and m the largest, the loss is m + log sum_j exp(l_j - m) - l_label. Every
    device sees the whole batch and its own classes, and takes m, the sum and l_label over these; each is
    then one reduction over the devices, of a number a row. No logit and no column leaves its device.

    Args:
      head: of margins; columns that belong to none of its classes take no probability.
      terms: of the head, for these sets; the kernel is split over the devices by columns, the rest by rows.
      descriptor: [B, D] unit, split by rows.
      labels: [B] int32 in [0, C), split by rows.
      mesh: of the devices; None where nothing is split.

    Returns:
      ([B] float32 losses, [B] bool: no class has a larger logit than the label), on every device.
    """
    rows = (descriptor, labels, terms.angular, terms.additive)
    if mesh is None or mesh.size == 1:
        return _finish(*_partial_softmax(head, terms.kernel, 0, *rows))

    def on_device(kernel, *rows):
        rows = lax.all_gather(rows, AXIS, tiled=True)
        first = lax.axis_index(AXIS) * kernel.shape[1]
        largest, total, target = _partial_softmax(head, kernel, first, *rows)
        most = lax.pmax(largest, AXIS)
        return _finish(most, lax.psum(total * jnp.exp(largest - most), AXIS), lax.psum(target, AXIS))

    in_specs = (P(None, AXIS), *[P(AXIS)] * len(rows))
    return jax.shard_map(on_device, mesh=mesh, in_specs=in_specs, out_specs=(P(), P()))(terms.kernel, *rows)


def _partial_softmax(head, kernel, first, descriptor, labels, angular, additive):
    """Of the classes from `first` on: largest logit [B], sum of exp(logit - largest), label's logit or 0."""
    here = first + jnp.arange(kernel.shape[1])[None]
    cosine = class_cosines(descriptor, kernel, head.dtype)
    logits = margin_logits(cosine, labels - first, angular, additive, head.scale)
    logits = jnp.where(here < head.num_classes, logits, _NEVER)
    # The maximum cancels, so no gradient need pass through it.
    largest = lax.stop_gradient(jnp.max(logits, axis=1))
    target = jnp.sum(jnp.where(here == labels[:, None], logits, 0.0), axis=1)
    return largest, jnp.sum(jnp.exp(logits - largest[:, None]), axis=1), target


def _finish(largest, total, target):
    return largest + jnp.log(total) - target, target >= largest
