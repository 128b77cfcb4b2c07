"""A few people and small models, to evaluate."""

import dataclasses
import itertools

import jax
import numpy as np

from fpsset.data.synthetic import make_synthetic
from fpsset.evaluation.protocols import make_protocol
from fpsset.face_set import pad_sets
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.weights.cards import AggregatorCard, Weights, WeightsCard, save_weights

DIM = 16


def make_faces():
    """24 people with two templates of at most 8 faces each, so that all batches have one shape."""
    table = make_synthetic(24, 1, DIM)[0]
    sets = make_protocol(table).sets
    parts = [sets.rows[start : min(start + 8, stop)] for start, stop in itertools.pairwise(sets.starts)]
    template = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return dataclasses.replace(table.take(np.concatenate(parts)), template=template)


def save_model(folder, seed: int, **trained):
    card = AggregatorCard(3, num_heads=2, dim=DIM, norm_scale=1.0, by_media=True, **trained)
    sets = pad_sets([np.eye(DIM, dtype=np.float32)[:4]], [np.ones(4, np.float32)])
    init = jax.jit(FaceCoresetNet(coreset_size=3, num_heads=2).init)
    params = init(jax.random.key(seed), sets)["params"]
    params = jax.tree.map(np.asarray, params)
    about = WeightsCard("FaceCoresetNet", "drawn", "0" * 64, "none", {}, (), None, card)
    save_weights(folder, Weights({"aggregator": {"params": params}}, about))
