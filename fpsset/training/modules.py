"""The set model and the margin head that a configuration names."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from fpsset.errors import InputError
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.models.margin_heads import HEADS


def make_set_model(fields: ConfigDict, kind: type[FaceCoresetNet] = FaceCoresetNet, **attributes):
    """A module of `config.model`.

    Args:
      fields: the configuration's part of that name.
      kind: FaceCoresetNet, or a subclass.
      **attributes: of the subclass.
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
    """Raises InputError unless embeddings [..., dim] suit the model of a configuration."""
    if dim % 2 or dim % config.model.num_heads:
        raise InputError(
            f"config.model.num_heads is {config.model.num_heads}, but embeddings of width {dim} must be even "
            "and split over it evenly"
        )


def make_head(config: ConfigDict, classes: int, columns: int):
    """The margin head of `config.head`.

    Args:
      config: checked configuration.
      classes: C, people to tell apart.
      columns: of the kernel, at least C; those beyond are padding.
    """
    fields = {"num_classes": classes, "margin": config.head.margin, "scale": config.head.scale}
    fields |= {"columns": columns, "dtype": jnp.dtype(config.model.dtype)}
    if config.head.name == "adaface":
        fields["h"] = config.head.h
    return HEADS[config.head.name](**fields)
