"""A few people and small models, to evaluate."""

import dataclasses
import itertools

import numpy as np

from fpsset.data.synthetic import make_synthetic
from fpsset.evaluation.protocols import make_protocol
from fpsset.models.face_coreset_net import FaceCoresetNet
from fpsset.weights.cards import AggregatorCard, Weights, WeightsCard, save_weights
from tests.sets import random_coreset_net

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
    params = random_coreset_net(FaceCoresetNet(num_heads=2), DIM, seed)
    about = WeightsCard("FaceCoresetNet", "drawn", "0" * 64, "none", {}, (), None, card)
    save_weights(folder, Weights({"aggregator": {"params": params}}, about))
