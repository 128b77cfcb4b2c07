"""Builds the set model and the margin head of a configuration."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from fpsset.errors import InputError
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.models.margin_heads import HEADS


def make_set_model(fields: ConfigDict, kind: type[FaceCoresetNet] = FaceCoresetNet, **attributes):
    """The set model that `config.model` describes.

    Args:
      fields: `config.model`.
      kind: FaceCoresetNet or a subclass of it.
      **attributes: further attributes of the subclass.
    """
    return kind(
        coreset_size=fields.coreset_size,
        num_heads=fields.num_heads,
        dropout_rate=fields.dropout_rate,
        gamma_init=fields.gamma,
        quality=fields.quality,
        by_media=fields.by_media,
        dtype=jnp.dtype(fields.dtype),
        **attributes,
    )


def require_width(config: ConfigDict, dim: int) -> None:
    """Raises InputError unless the configured model can take embeddings of width `dim`."""
    if dim % 2 or dim % config.model.num_heads:
        raise InputError(
            f"config.model.num_heads is {config.model.num_heads}; it must divide the width of the "
            f"embeddings, {dim}, which must be even"
        )


def make_head(config: ConfigDict, classes: int, columns: int):
    """The margin head that `config.head` describes.

    Args:
      config: checked configuration.
      classes: C, people in the training data.
      columns: of the kernel, at least C; the rest are padding.
    """
    fields = {"num_classes": classes, "margin": config.head.margin, "scale": config.head.scale}
    fields |= {"columns": columns, "dtype": jnp.dtype(config.model.dtype)}
    if config.head.name == "adaface":
        fields |= {"h": config.head.h, "t_alpha": config.head.t_alpha}
        fields["group"] = config.recipe.group if config.recipe.statistics == "group" else None
    return HEADS[config.head.name](**fields)
