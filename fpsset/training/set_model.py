"""The set model that a configuration names."""

import jax.numpy as jnp
from ml_collections import ConfigDict

from fpsset.models.face_coreset_net import FaceCoresetNet


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
