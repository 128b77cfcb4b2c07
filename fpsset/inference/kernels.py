"""The TPU kernel for small sets: where it is used, and whether it computes there what XLA does."""

import functools
import os
from typing import NamedTuple

import jax
import numpy as np

from fpsset.face_set import FaceSet
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.ops.fused_pass import KINDS

_APART = 1e-4  # ten times what exact float32 leaves


def has_kernels() -> bool:
    """Whether batches on this machine's devices may use the kernel; FPSSET_KERNELS=0 leaves it out."""
    return jax.devices()[0].device_kind in KINDS and os.environ.get("FPSSET_KERNELS") != "0"


class KernelCheck(NamedTuple):
    """The kernel against XLA on the same sets.

    Attributes:
      same_picks: whether all picks are equal.
      largest_difference: between entries of their unit descriptors.
      agrees: whether both are as they should be.
    """

    same_picks: bool
    largest_difference: float
    agrees: bool


def check_kernel(
    slots: tuple[int, ...] = (8, 128), dim: int = 512, heads: int = 8, interpret: bool = False
) -> KernelCheck:
    """Computes random sets of 1 ... N faces by the kernel and by XLA, in float32.

    Args:
      slots: numbers N of slots, of which the kernel takes each.
      dim: D.
      heads: of the attention.
      interpret: run the kernel on any platform, slowly.

    Example:
      >>> from fpsset.inference.kernels import check_kernel
      >>> check_kernel(slots=(8,), dim=128, heads=2, interpret=True).agrees
      True
    """
    net, rng = FaceCoresetNet(num_heads=heads), np.random.default_rng(0)
    same, apart = True, 0.0
    for size in slots:
        faces = rng.standard_normal((2 * size, size, dim)).astype(np.float32)
        faces /= np.linalg.norm(faces, axis=-1, keepdims=True)
        mask = np.arange(size) <= np.arange(2 * size)[:, None] % size
        sets = FaceSet(faces, rng.uniform(5, 30, mask.shape).astype(np.float32), mask)
        variables = jax.jit(net.init)(jax.random.key(size), sets)
        kernel = functools.partial(net.apply, method="in_one_kernel", interpret=interpret)
        found, wanted = (jax.device_get(jax.jit(apply)(variables, sets)) for apply in (kernel, net.apply))
        same &= bool((found.coreset_indices == wanted.coreset_indices).all())
        apart = float(np.fmax(apart, np.abs(found.descriptor - wanted.descriptor).max()))
        if not np.isfinite(found.descriptor).all():
            apart = float("inf")
    return KernelCheck(same, apart, same and apart < _APART)
