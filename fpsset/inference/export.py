"""Exports an aggregator to one StableHLO file that runs without this package."""

import os
import pathlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from fpsset.errors import InputError
from fpsset.face_set import FaceSet
from fpsset.ops.media import media_sum
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
    media: bool = False,
) -> None:
    """Writes a set model with its weights by `jax.export`, for any batch size and set size.

    The file holds a function of

      embeddings: [B, N, D] float32 unit rows
      norms: [B, N] float32, as the backbone returned them
      mask: [B, N] bool, True where a slot holds a face

    that returns {'descriptor': [B, D] float32, 'norm': [B] float32, 'coreset_indices': [B, K] int32}, with
    symbolic B and N. Run it with JAX alone: `jax.export.deserialize(bytes).call(embeddings, norms, mask)`.
    Without `media` it does not know them. With `media` it also takes

      media: [B, N] int32 in [0, N), equal for the faces of a medium; padding may hold anything

    Args:
      path: the file to write; it is replaced atomically.
      apply: the linen module's `apply`.
      variables: the module's variables; they become constants of the function.
      dim: D.
      norm_scale: factor applied to norms before the model sees them.
      platforms: platforms to lower for, from `PLATFORMS`.
      media: whether media are an argument.

    Raises:
      InputError: a platform is unknown, or flatbuffers is not installed.
    """
    for platform in platforms:
        if platform not in PLATFORMS:
            raise InputError(f"unknown platform {platform!r}; it must be one of {', '.join(PLATFORMS)}")
    try:
        import flatbuffers  # noqa: F401  (required by `serialize`)
    except ImportError as error:
        raise InputError("export needs flatbuffers; run pip install 'fpsset[export]'") from error
    constants = jax.tree.map(jnp.asarray, variables)

    def aggregate(embeddings, norms, mask, *given):
        faces = FaceSet(embeddings, norms * jnp.float32(norm_scale), mask)
        for codes in given:
            codes = jnp.where(mask, codes, 0)
            faces = faces.replace(media=codes, media_size=media_sum(jnp.ones_like(norms), codes, mask))
        out = apply(constants, faces)
        return {name: getattr(out, name) for name in OUTPUTS}

    batch, size = jax.export.symbolic_shape("b, n")
    arguments = (
        jax.ShapeDtypeStruct((batch, size, dim), jnp.float32),
        jax.ShapeDtypeStruct((batch, size), jnp.float32),
        jax.ShapeDtypeStruct((batch, size), jnp.bool_),
        *((jax.ShapeDtypeStruct((batch, size), jnp.int32),) if media else ()),
    )
    exported = jax.export.export(jax.jit(aggregate), platforms=tuple(platforms))(*arguments)
    with replacing(pathlib.Path(path)) as beside:
        beside.write_bytes(exported.serialize())
