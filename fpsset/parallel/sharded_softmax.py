"""Softmax cross-entropy over classes that are sharded over devices."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P

from fpsset.models.margin_heads import HeadTerms, class_cosines, margin_logits
from fpsset.parallel.mesh import AXIS

_MASKED_LOGIT = -1e30


def margin_cross_entropy(
    head: nn.Module,
    terms: HeadTerms,
    descriptor: jax.Array,
    labels: jax.Array,
    mesh: Mesh | AbstractMesh | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of margin logits; each device computes the logits of its own classes only.

    With l the logits of a row and m their maximum, the loss is m + log sum_j exp(l_j - m) - l_label. Every
    device gathers the whole batch and computes m, the sum and l_label over its own classes; each of the three
    is then reduced over the devices, one number per row. Logits and kernel columns never leave their device.

    Args:
      head: a margin head; columns beyond its classes get no probability.
      terms: the head's terms for these sets; the kernel is sharded by columns, the rest by rows.
      descriptor: [B, D] unit, sharded by rows.
      labels: [B] int32 in [0, C), sharded by rows.
      mesh: see `parallel.mesh.data_mesh`; None if nothing is sharded.

    Returns:
      ([B] float32 losses, [B] bool: no class has a larger logit than the label), replicated.
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
    """(max logit, sum of exp(logit - max), label's logit or 0) over the classes from `first` on, [B] each."""
    here = first + jnp.arange(kernel.shape[1])[None]
    cosine = class_cosines(descriptor, kernel, head.dtype)
    logits = margin_logits(cosine, labels - first, angular, additive, head.scale)
    logits = jnp.where(here < head.num_classes, logits, _MASKED_LOGIT)
    # The maximum cancels in the loss, so its gradient can be dropped.
    largest = lax.stop_gradient(jnp.max(logits, axis=1))
    target = jnp.sum(jnp.where(here == labels[:, None], logits, 0.0), axis=1)
    return largest, jnp.sum(jnp.exp(logits - largest[:, None]), axis=1), target


def _finish(largest, total, target):
    return largest + jnp.log(total) - target, target >= largest
