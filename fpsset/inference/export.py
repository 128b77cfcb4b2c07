"""The aggregator as one file of StableHLO, to be called without this package."""

import os
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from fpsset.errors import InputError
from fpsset.face_set import FaceSet
from fpsset.runtime.files import replacing

PLATFORMS = ("cpu", "cuda", "tpu")
OUTPUTS = ("descriptor", "norm", "coreset_indices")


def export_aggregator(
    path: str | os.PathLike,
    apply: Callable,
    variables: dict,
    dim: int,
    norm_scale: float = 1.0,
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Writes a set model with its weights, for any batch and set size, by `jax.export`.

    The file holds a function (embeddings [B, N, D] float32 unit rows, norms [B, N] float32 as the
    backbone gave them, mask [B, N] bool) -> {'descriptor': [B, D], 'norm': [B], 'coreset_indices':
    [B, K] int32}, B and N symbolic. `jax.export.deserialize(bytes).call` runs it, with JAX alone. It is not
    told media: every face weighs by itself.

    Args:
      path: the file; written beside and then renamed.
      apply: of the linen module.
      variables: its variables; they become constants of the function.
      dim: D.
      norm_scale: factor applied to norms first.
      platforms: to lower for.

    Raises:
      InputError: an unknown platform, or flatbuffers is not installed.
    """
    for platform in platforms:
        if platform not in PLATFORMS:
            raise InputError(f"the platform is {platform!r}; it must be one of {', '.join(PLATFORMS)}")
    try:
        import flatbuffers  # noqa: F401  (what serialize needs)
    except ImportError as error:
        raise InputError("export needs flatbuffers; pip install 'fpsset[export]'") from error
    constants = jax.tree.map(jnp.asarray, variables)

    def aggregate(embeddings, norms, mask):
        out = apply(constants, FaceSet(embeddings, norms * jnp.float32(norm_scale), mask))
        return {name: getattr(out, name) for name in OUTPUTS}

    batch, size = jax.export.symbolic_shape("b, n")
    arguments = (
        jax.ShapeDtypeStruct((batch, size, dim), jnp.float32),
        jax.ShapeDtypeStruct((batch, size), jnp.float32),
        jax.ShapeDtypeStruct((batch, size), jnp.bool_),
    )
    exported = jax.export.export(jax.jit(aggregate), platforms=tuple(platforms))(*arguments)
    with replacing(pathlib.Path(path)) as beside:
        beside.write_bytes(exported.serialize())
