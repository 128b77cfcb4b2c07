"""A set sharded over devices, against the same set on one."""

import dataclasses

import jax
import numpy as np
import pytest

import fpsset
from fpsset.face_set import FaceSet, group_rows
from fpsset.inference.descriptors import describe_one
from fpsset.models.pooling import WhitenedMedia
from fpsset.models.posterior import PosteriorPooling
from fpsset.parallel import sharded_sets
from tests.sets import DESCRIBED, make_set, random_posterior, random_whitening

DIM = 16


def both(aggregator, embeddings, norms, ids):
    sets = group_rows(embeddings, norms, ids, np.arange(len(ids)) // 3)[1]
    model = aggregator.module.clone(by_media=True)
    return (describe_one(model, aggregator.variables, sets, split_from=split) for split in (None, 1))


def assert_same(one, split):
    np.testing.assert_array_equal(split.coreset, one.coreset)
    np.testing.assert_allclose(split.vectors, one.vectors, atol=1e-5)
    np.testing.assert_allclose(split.norms, one.norms, rtol=1e-5)


def on_one_and_on_all(module, variables, sets, spoilt=None):
    """Descriptors, norms and picks on one device, and over all devices, there perhaps with other padding."""

    def apply(variables, face_set, *axis_name, method=None):
        out = module.apply(variables, face_set, *axis_name, method=method)
        return out.descriptor, out.norm, out.coreset_indices

    def over_devices(variables, face_set):
        return apply(variables, face_set, sharded_sets.AXIS, method="over_devices")

    mesh = sharded_sets.device_mesh()
    assert mesh.size == 8
    run = jax.jit(sharded_sets.over_devices(over_devices, mesh))
    split = sharded_sets.split(sets if spoilt is None else spoilt, mesh)
    return zip(jax.jit(apply)(variables, sets), run(variables, split), strict=True)


SIZES = (1, 2, 3, 8, 50)  # of two padded sizes


def test_sets_of_many_sizes(aggregator):
    """Some leave devices without a face."""
    ids = np.repeat(np.arange(len(SIZES)), SIZES)
    assert_same(*both(aggregator, *make_set(1, len(ids), dim=DIM), ids))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("model", "params"),
    [(PosteriorPooling(3), random_posterior(DIM)), (WhitenedMedia(3), random_whitening(DIM))],
    ids=["posterior", "whitened"],
)
def test_fitted_models_with_media_over_several_devices(model, params, known):
    """The faces of a medium are on several devices, and some devices have none of a set."""
    sizes = [1, 3, 9, 37]
    embeddings, norms = zip(*(make_set(size, size, dim=DIM) for size in sizes), strict=True)
    media = [np.random.default_rng(size).integers(0, 6, size) for size in sizes] if known else None
    sets = fpsset.pad_sets(embeddings, norms, media_list=media)
    vectors, lengths, picks = on_one_and_on_all(model, {"params": params}, sets)
    np.testing.assert_allclose(*vectors, atol=1e-5)
    np.testing.assert_allclose(*lengths, rtol=1e-5)
    np.testing.assert_array_equal(*picks)


def test_copies_are_picked_in_order_whatever_device_they_are_on(aggregator):
    embeddings, norms = make_set(2, 8, dim=DIM)
    embeddings, norms = np.tile(embeddings, (8, 1)), np.tile(norms, 8)
    one, split = both(aggregator, embeddings, norms, np.zeros(64, int))
    assert_same(one, split)
    assert split.coreset.max() < 8


@pytest.mark.parametrize("kind", DESCRIBED)
def test_order_does_not_matter_where_scores_tie(aggregator, kind):
    embeddings, norms = make_set(5, 64, kind, DIM)
    order = np.random.default_rng(0).permutation(64)
    (_, straight), (one, shuffled) = (
        both(aggregator, embeddings[rows], norms[rows], np.zeros(64, int)) for rows in (np.arange(64), order)
    )
    np.testing.assert_array_equal(shuffled.coreset, one.coreset)
    for column in embeddings, norms:
        np.testing.assert_array_equal(column[order][shuffled.coreset], column[straight.coreset])


def test_a_ragged_last_part_and_what_padding_holds(aggregator):
    """37 slots on 8 devices of 5; padding may hold anything."""
    embeddings, norms = make_set(3, 37, dim=DIM)
    mask = np.arange(37) < 30
    clean = FaceSet(embeddings[None], norms[None], mask[None])
    spoilt = FaceSet(
        np.where(mask[:, None], embeddings, np.nan)[None], np.where(mask, norms, np.nan)[None], mask[None]
    )
    for one, other in on_one_and_on_all(aggregator.module, aggregator.variables, clean, spoilt):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)


def test_large_sets_are_split_by_themselves(aggregator, monkeypatch):
    card = dataclasses.replace(aggregator.card, by_media=True)
    aggregator = fpsset.Aggregator(aggregator.variables["params"], card)
    embeddings, norms = make_set(4, sum(SIZES), dim=DIM)
    ids = np.repeat(np.arange(len(SIZES)), SIZES)
    media = np.arange(len(ids)) // 3
    wanted = aggregator.aggregate(embeddings, norms, ids, media=media)
    monkeypatch.setattr("fpsset.inference.aggregator._SPLIT_FROM", 64)
    split, seen = sharded_sets.split, []
    monkeypatch.setattr(sharded_sets, "split", lambda batch, mesh: seen.append(batch) or split(batch, mesh))
    found = aggregator.aggregate(embeddings, norms, ids, media=media)
    assert [batch.mask.sum() for batch in seen] == [50]
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)
