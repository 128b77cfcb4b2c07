"""Closed-form initialisation: training starts from a good pooling, computed from the training faces.

From random weights a model must first learn what one line of pooling does, and with few people it memorises
them before that. Here it starts as the best pooling that the architecture can express: each pick attends to
faces similar to it, to good ones more than to poor ones, and good picks count more than poor ones.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fpsset.data.feature_table import FeatureTable
from fpsset.errors import InputError
from fpsset.face_set import group_rows
from fpsset.inference.descriptors import describe_one
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.parallel.mesh import local_copy
from fpsset.training.faces import TrainingFaces
from fpsset.training.step import TrainState

_ROWS = 1 << 18  # faces that suffice for the estimates


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
    near = neighbourhood(_some_people(table))
    params = jax.tree.map(np.array, params)
    attention, width = params["set_attention"], table.dim
    heads, depth = attention["query_bias"].shape
    identity = np.eye(width, dtype=np.float32).reshape(width, heads, depth)
    # LayerNorm gives picks length sqrt(width), logits are divided by sqrt(depth), and each head has a share.
    likeness = settings.likeness * heads**0.5 / float(np.mean(table.norms))
    attention["query"], attention["key"], attention["value"] = likeness * identity, identity, identity
    attention["out"] = settings.seen * whitening_of(near, settings.shrinkage).reshape(heads, depth, width)
    params["self_attention"]["out"] = np.zeros_like(params["self_attention"]["out"])
    params["output_norm"]["scale"] = np.full(width, settings.seen, np.float32)
    params["norm_encoding_scale"] = np.zeros(width, np.float32)
    params["quality_direction"], params["quality_power"] = quality_of(near, settings)
    return params


class Neighbourhood(NamedTuple):
    """Faces whose person has other media, and the mean direction of those media."""

    faces: FeatureTable  # m rows
    center: np.ndarray  # [m, D] float32 unit; faces of the other media, weighted by the cubed norm
    cosine: np.ndarray  # [m] float32, of each face to it


def neighbourhood(table: FeatureTable) -> Neighbourhood:
    """Pairs each face with the mean of its person's other media.

    Args:
      table: faces, norms scaled; rows with the same seed count as one medium.

    Raises:
      InputError: no person has two media.
    """
    person = np.unique(table.subject, return_inverse=True)[1]
    medium = np.unique(np.stack([person, table.sources]), axis=1, return_inverse=True)[1].reshape(-1)
    media = np.bincount(person[np.unique(medium, return_index=True)[1]])
    known = (media[person] > 1) & (table.norms > 0)
    if not known.any():
        raise InputError(
            f"{table.name}: no person has two media, which the closed-form initialisation needs; "
            "give --config.model.init=random"
        )
    weighted = table.embeddings * table.norms[:, None] ** 3
    others = (_sums(weighted, person)[person] - _sums(weighted, medium)[medium])[known]
    faces, center = (
        table.take(known),
        others / np.maximum(np.linalg.norm(others, axis=1, keepdims=True), 1e-12),
    )
    return Neighbourhood(faces, center, np.einsum("md,md->m", faces.embeddings, center))


def quality_of(near: Neighbourhood, settings: ClosedForm) -> tuple[np.ndarray, np.float32]:
    """The quality that best predicts the cosine of a face to its person, by ridge regression.

    Returns:
      (direction [D] float32, power), see `fpsset.ops.quality.face_quality`.
    """
    faces, dim = near.faces, near.faces.dim
    logs = np.log(faces.norms.astype(np.float64))
    columns = [
        faces.embeddings * faces.norms[:, None],
        (logs - logs.mean())[:, None],
        np.ones((len(logs), 1)),
    ]
    x = np.concatenate(columns, axis=1).astype(np.float32)
    # If all norms are equal they are uninformative, and the power is zero.
    penalty = np.array([settings.ridge * np.mean(np.square(faces.norms))] * dim + [1e-6 * len(logs), 0.0])
    solved = np.linalg.solve((x.T @ x) + np.diag(penalty), x.T @ near.cosine)
    solved = (settings.sharpness * solved).astype(np.float32)
    return solved[:dim], solved[dim]


def whitening_of(near: Neighbourhood, shrinkage: float) -> np.ndarray:
    """[D, D] float32 symmetric: attenuates directions in which faces of the same person differ.

    S^(-1/2), where S is the scatter of faces around their person's direction, shrunk towards the identity.
    """
    across = near.faces.embeddings - near.cosine[:, None] * near.center
    scatter = (across.T @ across).astype(np.float64) / len(across)
    scatter /= max(
        np.trace(scatter) / len(scatter), 1e-12
    )  # the trace is zero if each person's faces are all equal
    values, vectors = np.linalg.eigh((1 - shrinkage) * scatter + shrinkage * np.eye(len(scatter)))
    return ((vectors / np.sqrt(values)) @ vectors.T).astype(np.float32)


def class_centers(model: FaceCoresetNet, params: dict, table: FeatureTable) -> np.ndarray:
    """The descriptor of each person's faces: [D, C] float32 unit columns, in ascending order of subjects."""
    _, sets = group_rows(table.embeddings, table.norms, table.subject, table.media)
    model = model.clone(dtype=jnp.float32)
    return np.ascontiguousarray(describe_one(model, {"params": params}, sets).vectors.T)


def _some_people(table: FeatureTable) -> FeatureTable:
    """All faces of as many people as have about _ROWS faces together."""
    if len(table) <= _ROWS:
        return table
    people = np.unique(table.subject)
    kept = np.random.default_rng(0).permutation(people)[: max(2, len(people) * _ROWS // len(table))]
    return table.take(np.isin(table.subject, kept))


def _sums(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sum of the rows of each group: [M, D], [M] int -> [G, D]."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return np.add.reduceat(rows[order], starts, axis=0)
