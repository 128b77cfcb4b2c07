"""Closed-form initialisation: training starts from a good pooling, computed from the training faces.

From random weights a model must first learn what one line of pooling does, and with few people it memorises
them before that. Here it starts as the best pooling that the architecture can express: each pick attends to
faces similar to it, to good ones more than to poor ones, and good picks count more than poor ones.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fpsset.data.feature_table import FeatureTable
from fpsset.face_set import group_rows
from fpsset.inference.descriptors import describe_one
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.parallel.mesh import local_copy
from fpsset.training.closed_form import quality_of
from fpsset.training.faces import TrainingFaces
from fpsset.training.neighbourhood import inverse_root, neighbourhood, scatter, some_people
from fpsset.training.step import TrainState


@dataclasses.dataclass(frozen=True)
class ClosedForm:
    """Settings of the initial pooling, chosen by TAR on held-out people, which is flat around these values.

    Attributes:
      sharpness: difference in log weight per unit of the expected cosine to the person.
      likeness: difference in log weight per unit of the cosine to a pick.
      seen: weight of the attention relative to the pick itself, inside the last normalisation and after it.
      ridge: penalty of the quality regression, in faces of the mean squared norm.
      shrinkage: share of the identity in the scatter that whitens the values; 1: no whitening.
    """

    sharpness: float = 10.0
    likeness: float = 5.0
    seen: float = 10.0
    ridge: float = 10.0
    shrinkage: float = 0.9


def closed_form_init(
    state: TrainState, model: FaceCoresetNet, faces: TrainingFaces, config: ConfigDict, settings: ClosedForm
) -> TrainState:
    """Replaces the parameters of a fresh state that are computed from faces; arrays keep their shardings.

    Args:
      state: from `init_state`.
      model: its set model.
      faces: training input.
      config: checked configuration; `config.model.init` and `config.head.init` select the parameters.
      settings: of the pooling.

    Raises:
      InputError: see `neighbourhood`.
    """
    if config.model.init == config.head.init == "random":
        return state
    table, params = faces.sample(), dict(state.params)
    if config.model.init == "closed_form":
        fresh = params["aggregator"]
        params["aggregator"] = _placed(closed_form_params(local_copy(fresh), table, settings), fresh)
    if config.head.init == "centers":
        kernel = params["head"]["kernel"]
        centers = class_centers(model, local_copy(params["aggregator"]), table)
        spare = kernel.shape[1] - centers.shape[1]
        params["head"] = _placed({"kernel": np.pad(centers, ((0, 0), (0, spare)))}, params["head"])
    return state.replace(params=params)


def _placed(values: dict, like: dict) -> dict:
    """Puts host arrays on devices, with the shardings of the arrays in `like`."""

    def place(value, array):
        return jax.make_array_from_callback(array.shape, array.sharding, lambda index: value[index])

    return jax.tree.map(place, jax.tree.map(np.asarray, values), like)


def closed_form_params(params: dict, table: FeatureTable, settings: ClosedForm) -> dict:
    """Initial parameters of a `FaceCoresetNet`.

    Self-attention and the norm encoding contribute nothing, and the projections of the set attention are
    identities: its logits are likeness to the pick plus quality, and its values are the faces.

    Args:
      params: fresh parameters; gamma and everything not mentioned above are kept.
      table: training faces, norms scaled.
      settings: of the pooling.

    Returns:
      The same tree, float32 on the host.

    Raises:
      InputError: see `neighbourhood`.
    """
    near = neighbourhood(some_people(table))
    across = near.faces.embeddings - near.cosine[:, None] * near.center
    whitening = inverse_root(scatter(across), settings.shrinkage).astype(np.float32)
    params = jax.tree.map(np.array, params)
    attention, width = params["set_attention"], table.dim
    heads, depth = attention["query_bias"].shape
    identity = np.eye(width, dtype=np.float32).reshape(width, heads, depth)
    # LayerNorm gives picks length sqrt(width), logits are divided by sqrt(depth), and each head has a share.
    likeness = settings.likeness * heads**0.5 / float(np.mean(table.norms))
    attention["query"], attention["key"], attention["value"] = likeness * identity, identity, identity
    attention["out"] = settings.seen * whitening.reshape(heads, depth, width)
    params["self_attention"]["out"] = np.zeros_like(params["self_attention"]["out"])
    params["output_norm"]["scale"] = np.full(width, settings.seen, np.float32)
    params["norm_encoding_scale"] = np.zeros(width, np.float32)
    direction, power, _ = quality_of(near, settings.ridge)
    params["quality_direction"] = settings.sharpness * direction
    params["quality_power"] = settings.sharpness * power
    return params


def class_centers(model: FaceCoresetNet, params: dict, table: FeatureTable) -> np.ndarray:
    """The descriptor of each person's faces: [D, C] float32 unit columns, in ascending order of subjects."""
    _, sets = group_rows(table.embeddings, table.norms, table.subject, table.media)
    model = model.clone(dtype=jnp.float32)
    return np.ascontiguousarray(describe_one(model, {"params": params}, sets).vectors.T)
