"""Descriptors of many sets equal those computed one at a time, in few compilations."""

import jax
import numpy as np
import pytest

import fpsset
from fpsset.face_set import group_rows
from fpsset.inference import descriptors
from fpsset.inference.batching import bucket_size
from fpsset.models.pooling import baselines
from tests.sets import make_set

DIM, SLOTS = 16, 16


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, SLOTS + 1, 40)  # two buckets
    ids = rng.permutation(np.repeat(np.arange(40) * 2 + 3, counts))
    return (*make_set(1, len(ids), dim=DIM), ids)


@pytest.fixture(scope="module")
def apply(aggregator):
    """The model's call, which is compiled for one set in `SLOTS` slots."""
    compiled = jax.jit(aggregator.module.apply)
    return lambda sets: jax.device_get(compiled(aggregator.variables, sets))


def all_methods(aggregator):
    return {**baselines(3, 0.123), "fpsset": aggregator.module.clone(by_media=True)}


def test_one_compilation_a_bucket_for_all_methods(aggregator, faces):
    embeddings, norms, ids = faces
    _, sets = group_rows(embeddings, norms, ids, np.arange(len(ids)))
    models = all_methods(aggregator)
    run = descriptors._runner(tuple(models.items()))
    run.clear_cache()
    for _ in range(2):
        out = descriptors.describe(models, {"fpsset": aggregator.variables}, sets, faces_per_batch=256)
    assert run._cache_size() == len({bucket_size(size) for size in sets.sizes().tolist()}) == 2
    assert list(out) == ["mean", "norm_weighted", "media_mean", "fps", "fpsset"]
    # Equal modules find the same compiled function.
    assert descriptors._runner(tuple(all_methods(aggregator).items())) is run


def test_aggregate_is_the_model_on_each_set(aggregator, apply, faces):
    embeddings, norms, ids = faces
    found, vectors, lengths, coreset = aggregator.aggregate(3 * embeddings, norms, ids)
    np.testing.assert_array_equal(found, np.unique(ids))
    assert vectors.shape == (40, DIM) and lengths.shape == (40,) and coreset.shape == (40, 3)
    for t in (0, 7, 39):
        rows = np.flatnonzero(ids == np.unique(ids)[t])
        out = apply(fpsset.pad_sets([embeddings[rows]], [2 * norms[rows]], size=SLOTS))
        np.testing.assert_allclose(vectors[t], out.descriptor[0], atol=1e-5)
        np.testing.assert_allclose(lengths[t], out.norm[0], rtol=1e-4)
        picks = out.coreset_indices[0]
        assert coreset[t].tolist() == np.where(picks >= 0, rows[picks], -1).tolist()


def test_packed_sets_are_the_same(aggregator, faces):
    """For every model, with media given: sets that share a row of slots do not affect each other."""
    embeddings, norms, ids = faces
    _, sets = group_rows(embeddings, norms, ids, np.arange(len(ids)) // 2)
    models = all_methods(aggregator)
    alone, packed = (
        descriptors.describe(models, {"fpsset": aggregator.variables}, sets, 256, packed=packed)
        for packed in (False, True)
    )
    for name in models:
        np.testing.assert_allclose(packed[name].vectors, alone[name].vectors, atol=2e-6)
        np.testing.assert_allclose(packed[name].norms, alone[name].norms, rtol=1e-5)
    np.testing.assert_array_equal(packed["fpsset"].coreset, alone["fpsset"].coreset)


def test_packs_are_not_split_over_devices(aggregator, faces):
    embeddings, norms, ids = faces
    _, sets = group_rows(embeddings, norms, ids)
    model = aggregator.module, aggregator.variables
    alone = descriptors.describe_one(*model, sets)
    split = descriptors.describe_one(*model, sets, split_from=16, packed=True)
    np.testing.assert_allclose(split.vectors, alone.vectors, atol=2e-6)


def test_ids_may_be_strings(aggregator, faces):
    embeddings, norms, ids = faces
    by_number = aggregator.aggregate(embeddings, norms, ids)
    by_name = aggregator.aggregate(embeddings, norms, np.char.mod("id%03d", ids))
    np.testing.assert_array_equal(by_name.descriptors, by_number.descriptors)


def test_norms_are_the_lengths_where_none_are_given(aggregator, faces):
    embeddings, norms, ids = faces
    wanted = aggregator.aggregate(embeddings, norms, ids)
    for given in (embeddings * norms[:, None], (embeddings * norms[:, None]).astype(np.float64)):
        found = aggregator.aggregate(given, set_ids=ids.tolist())
        np.testing.assert_allclose(found.descriptors, wanted.descriptors, atol=1e-5)
        np.testing.assert_allclose(found.norms, wanted.norms, rtol=1e-4)
    for normalised in (embeddings, embeddings.astype(np.float16)):
        with pytest.raises(fpsset.InputError, match="all embeddings have length 1"):
            aggregator.aggregate(normalised, set_ids=ids)


def test_padding_scales_norms_for_the_module(aggregator, apply, faces):
    embeddings, norms, ids = faces
    wanted = aggregator.aggregate(embeddings, norms, ids)
    rows = [np.flatnonzero(ids == which) for which in wanted.ids[:3]]
    sets = aggregator.pad([3 * embeddings[part] for part in rows], [norms[part] for part in rows], size=SLOTS)
    for t in range(3):
        out = apply(jax.tree.map(lambda array, t=t: array[t : t + 1], sets))
        np.testing.assert_allclose(out.descriptor[0], wanted.descriptors[t], atol=1e-5)
    names = [np.array(["still", *["clip"] * (len(part) - 1)]) for part in rows]
    sets = aggregator.pad([embeddings[part] * norms[part, None] for part in rows], media_list=names, size=80)
    assert sets.mask.shape == (3, 80) and sets.media_size[0, 1] == len(rows[0]) - 1
    np.testing.assert_allclose(sets.norms[0, : len(rows[0])], 2 * norms[rows[0]], rtol=1e-5)


def test_a_mask_of_numbers_is_refused_in_one_line(aggregator, apply, faces):
    sets = aggregator.pad([faces[0][:3]], [faces[1][:3]], size=SLOTS)
    spoilt = sets.replace(mask=sets.mask.astype(np.float32))
    for model in (aggregator.module, *baselines(3).values()):
        with pytest.raises(ValueError, match=r"^mask must be bool.*it is float32: pass mask > 0"):
            model.apply(aggregator.variables, spoilt)
    lists = fpsset.FaceSet(*(array.tolist() for array in (sets.embeddings, sets.norms, sets.mask)))
    given = jax.jit(lambda variables: aggregator.module.apply(variables, lists))(aggregator.variables)
    np.testing.assert_allclose(given.descriptor, apply(sets).descriptor, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, n, i: (e[:, :8], n, i), "8 wide; the model takes 16"),
        (lambda e, n, i: (e, n[:-1], i), "'norms' has 333 rows but 'embeddings' has 334"),
        (lambda e, n, i: (e, n, i[:, None]), "set_ids must be .334., one per row"),
        (lambda e, n, i: (e, n[0], i), "'norms' must be"),
        (lambda e, n, i: (e[:0], n[:0], i[:0]), "at least one row"),
        (
            lambda e, n, i: (e * (np.arange(len(e)) != 5)[:, None], n, i),
            "row 5 of 'embeddings' has length",
        ),
        (lambda e, n, i: (e, np.where(np.arange(len(e)) == 5, -1, n), i), "row 5 of 'norms' is negative"),
    ],
)
def test_aggregate_rejects(aggregator, faces, change, message):
    with pytest.raises(fpsset.InputError, match=message):
        aggregator.aggregate(*change(*faces))
