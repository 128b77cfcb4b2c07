"""What a type checker makes of the public names: mypy reads this file in .ci/run; nothing runs it."""

from typing import assert_type

import jax
import numpy as np

import fpsset
from fpsset.inference.aggregator import Aggregated
from fpsset.inference.galleries import Gallery
from fpsset.weights.cards import Weights

Array = np.ndarray


def of_models(faces: Array, norms: Array, ids: Array) -> None:
    model = fpsset.load("runs/mine")
    assert_type(model, fpsset.Aggregator)
    assert_type(fpsset.fit("train.npz", "whitened"), fpsset.Aggregator)
    plain: fpsset.PlainAggregator = fpsset.PlainAggregator()
    for one in (model, plain):
        found = one.aggregate(faces, norms, ids, media=ids)
        assert_type(found, Aggregated)
        one.save_gallery("gallery.npz", found.ids, found.descriptors, found.norms)
        assert_type(one.load_gallery("gallery.npz"), Gallery)
        assert_type(one.explain(faces, norms), fpsset.Explanation)
    why = model.explain(faces, norms)
    assert_type(why.to_json(), str)
    model.save("saved")


def of_streams(model: fpsset.Aggregator, faces: Array, norms: Array) -> None:
    stream = fpsset.StreamingAggregator(model)
    stream.update(faces, norms)
    assert_type(stream.merge(stream), fpsset.StreamingAggregator)
    vector, norm = stream.descriptor()
    print(vector.shape, float(norm))


def of_weights(images: jax.Array) -> None:
    weights = fpsset.load_official("model.ckpt", color_order="bgr")
    assert_type(weights, Weights)
    embeddings, norms = fpsset.embed(weights["backbone"], images)
    assert_type((embeddings, norms), tuple[jax.Array, jax.Array])


def of_sets(faces: Array, norms: Array, mask: jax.Array) -> None:
    sets = fpsset.pad_sets([faces], [norms])
    assert_type(sets, fpsset.FaceSet)
    picks = fpsset.farthest_point_sampling(sets.embeddings, sets.norms, sets.mask, size=3, gamma=0.35)
    assert_type(picks, jax.Array)


def of_errors(error: fpsset.InputError) -> ValueError:
    return error
