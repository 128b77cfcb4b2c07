"""Explanations agree with the model, leaving out a face equals removing it, and advice follows the rules."""

import json
import math
import tracemalloc

import jax
import numpy as np
import pytest

import fpsset
from fpsset.inference.advice import Rules, advise
from fpsset.weights.cards import AggregatorCard
from tests.sets import make_set, random_coreset_net


@pytest.fixture(scope="module")
def trained():
    params = random_coreset_net(fpsset.FaceCoresetNet(num_heads=2), 16)
    return fpsset.Aggregator(params, AggregatorCard(3, 2, 16, norm_scale=2.0, by_media=True))


MODELS = ("trained", "plain")


@pytest.fixture(params=MODELS)
def model(request):
    return fpsset.PlainAggregator() if request.param == "plain" else request.getfixturevalue("trained")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_it_tells_what_the_model_does(model, size):
    (embeddings, norms), media = make_set(5, size), np.arange(size) // 2
    why = model.explain(embeddings, norms, media=media)
    _, descriptors, lengths, chosen = model.aggregate(embeddings, norms, media=media)
    np.testing.assert_allclose(why.descriptor, descriptors[0], atol=1e-6)
    np.testing.assert_allclose(why.norm, lengths[0], rtol=1e-5)
    np.testing.assert_array_equal(why.picks, chosen[0][chosen[0] >= 0])
    np.testing.assert_allclose(why.attention_by_pick.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(why.attention, why.attention_by_pick.mean(0), rtol=1e-6)
    np.testing.assert_array_equal(why.nearest[why.picks], np.arange(len(why.picks)))
    assert sorted(np.concatenate([why.members(k) for k in range(len(why.picks))])) == list(range(size))
    if size == 1:
        assert np.isnan(why.change).all() and np.isnan(why.agreement).all()
        return
    for face in range(size):
        rest = np.delete(np.arange(size), face)
        without = model.aggregate(embeddings[rest], norms[rest], media=media[rest]).descriptors[0]
        np.testing.assert_allclose(why.change[face], 1 - without @ descriptors[0], atol=1e-6)


def test_frames_of_one_video_share_the_attention_of_one(trained):
    (embeddings, norms), shown = make_set(5, 5), np.array([0, 1, 2, 3, 4, 4, 4])
    once = trained.explain(embeddings, norms).attention_by_pick
    thrice = trained.explain(embeddings[shown], norms[shown], media=shown).attention_by_pick
    np.testing.assert_allclose(thrice[:, :4], once[:, :4], rtol=1e-4)
    np.testing.assert_allclose(thrice[:, 4:], once[:, 4:].repeat(3, axis=1) / 3, rtol=1e-4)


def test_the_digest_tells_whether_media_count(trained):
    card = AggregatorCard(3, 2, 16, norm_scale=2.0)
    assert fpsset.Aggregator(trained.variables["params"], card).digest != trained.digest


def test_distances_are_of_the_metric(model):
    """n^gamma (1 - cos) / 2 to the nearest earlier pick, and the largest one that remains."""
    embeddings, norms = make_set(9, 12)
    why = model.explain(embeddings, norms, leave_one_out=False)
    weight = (norms * model.norm_scale) ** float(model.variables["params"]["gamma"])
    distances = weight[:, None] * (1 - embeddings @ embeddings[why.picks].T) / 2
    assert math.isnan(why.distances[0]) and why.picks[0] == norms.argmax()
    for k in (1, 2):
        left = distances[:, :k].min(1)
        assert left.argmax() == why.picks[k]
        np.testing.assert_allclose(why.distances[k], left.max(), rtol=1e-5)
    np.testing.assert_allclose(why.remaining_distance, distances.min(1).max(), rtol=1e-5)
    np.testing.assert_allclose(why.norm_weight, weight, rtol=1e-5)
    assert why.change is None
    np.testing.assert_allclose(why.cosine, (embeddings @ embeddings[why.picks].T).max(1), atol=1e-6)


def test_leaving_out_in_parts_changes_nothing(model, monkeypatch):
    embeddings, norms = make_set(3, 7)
    whole = model.explain(embeddings, norms)
    monkeypatch.setattr("fpsset.inference.explanation._FACES_AT_ONCE", 24)  # three sets of eight slots
    parts = model.explain(embeddings, norms)
    np.testing.assert_allclose(parts.change, whole.change, atol=1e-6)


def test_a_program_for_all_sets_of_one_padded_size(trained):
    compiled = []

    def listen(event, *_, **__):  # it stays registered, which does no harm
        compiled.extend([event] if event.endswith("backend_compile_duration") else [])

    jax.monitoring.register_event_duration_secs_listener(listen)
    trained.explain(*make_set(1, 17))
    seen = len(compiled)
    for size in (18, 25, 32):
        trained.explain(*make_set(1, size))
    assert 1 <= seen <= 2 and len(compiled) == seen


def test_a_large_set_needs_no_square_array(trained):
    embeddings, norms = make_set(1, 5000)
    trained.explain(embeddings, norms, leave_one_out=False)  # compiles, which is slow while memory is traced
    tracemalloc.start()
    trained.explain(embeddings, norms, leave_one_out=False)
    assert tracemalloc.get_traced_memory()[1] < 5000**2 / 2
    tracemalloc.stop()


def test_json(model):
    embeddings, norms = make_set(1, 5)
    why = model.explain(embeddings, norms, media=[0, 0, 1, 1, 2])
    read = json.loads(why.to_json())
    assert read["distances"][0] is None and read["picks"] == why.picks.tolist()
    assert read["media"] == [0, 0, 1, 1, 2] and len(read["change"]) == 5


def test_bad_media(model):
    embeddings, norms = make_set(1, 5)
    with pytest.raises(fpsset.InputError, match="media must be"):
        model.explain(embeddings, norms, media=[1, 2])


def set_of(*cosines, norms=None):
    """A set whose first face is e_0; the others have the given cosines to it, each in its own plane."""
    embeddings = np.zeros((len(cosines) + 1, 16), np.float32)
    embeddings[0, 0] = 1
    for i, cosine in enumerate(cosines, 1):
        embeddings[i, 0], embeddings[i, i] = cosine, math.sqrt(1 - cosine**2)
    norms = np.full(len(embeddings), 10.0) if norms is None else np.array(norms, float)
    return embeddings, norms


def said(embeddings, norms, media=None, size=1, **rules):
    model = fpsset.PlainAggregator(coreset_size=size)
    return advise(model.explain(embeddings, norms, media=media), embeddings, rules=Rules(**rules))


def test_a_stranger_and_a_poor_face():
    found = said(*set_of(0.9, 0.9, 0.9, 0.0, 0.0, norms=[10, 9, 9, 9, 9, 2]))
    assert found.strangers.tolist() == [4] and found.poor.tolist() == [5]
    assert found.of_face(4) == "looks like someone else" and found.of_face(1) == ""
    assert any("face 4 looks like someone else" in line for line in found.lines)


def test_two_who_differ_are_not_each_a_stranger():
    found = said(*set_of(0.0), size=1)
    assert any("look like two different people" in line for line in found.lines)


def test_coverage_names_the_fewest_picks_that_suffice():
    assert (
        said(*set_of(0.9, 0.8), size=2).lines[0] == "1 pick covers the set: 3 of 3 faces are similar to it."
    )
    found = said(*set_of(0.9, 0.8, 0.1, 0.1), size=2)
    assert found.covered.tolist() == [3, 4]
    assert found.lines[0] == "1 of 5 faces is not similar to any of the 2 picks (cosine below 0.5)."


def test_twins_add_nothing():
    embeddings, norms = set_of(0.5)
    embeddings, norms = np.repeat(embeddings, 4, 0), np.repeat(norms, 4)
    found = said(embeddings, norms, size=2, idle=0.02)
    assert 0 not in found.idle and len(found.idle) == 6


def test_a_copy_is_named_and_not_every_face_adds_something():
    embeddings, norms = set_of(0.5, 0.4)
    found = said(np.concatenate([embeddings, embeddings[1:2]]), np.append(norms, 9.0), size=2, idle=0)
    assert found.copies.tolist() == [[3, 1]] and found.of_face(3) == "a copy of another"
    assert "face 3 is a copy of face 1, or very nearly: keep one of them." in found.lines
    assert "Every face adds something." not in found.lines
    assert "Every face adds something." in said(*set_of(0.4, 0.4), size=2, idle=0).lines
    assert (
        "Every face adds something." not in said(embeddings, norms, size=2, idle=0).lines
    )  # 2 picks cover it


def test_two_frames_of_a_clip_are_explained():
    """Frames 0 and 3 are picked although medium 1 is not. With all media picked, repeats need no advice."""
    embeddings, norms = set_of(0.95, 0.94, 0.0, norms=[11, 10, 10, 10])
    found = said(embeddings, norms, media=[7, 1, 1, 7], size=2)
    assert found.repeats.tolist() == [1]
    assert any("come from the same clip" in line for line in found.lines)
    assert said(embeddings, norms, media=[7, 7, 7, 7], size=2).repeats.tolist() == []
    assert said(embeddings, norms, media=[7, 1, 1, 2], size=2).repeats.tolist() == []


@pytest.mark.parametrize("size", [2, 60])
def test_the_plain_model_takes_blocks_and_streams(size):
    """The descriptor is exact for any number of faces, because the sums do not depend on the picks."""
    embeddings, norms = make_set(8, size)
    model = fpsset.PlainAggregator()
    wanted = model.aggregate(embeddings, norms)
    parts = [(embeddings[part], norms[part]) for part in (slice(0, 1), slice(1, None))]
    found = model.aggregate_blocks(parts)
    np.testing.assert_allclose(found.descriptor, wanted.descriptors[0], atol=1e-6)
    np.testing.assert_array_equal(found.coreset, wanted.coreset[0])
    streams = [fpsset.StreamingAggregator(model, size=8).update(*part) for part in parts]
    descriptor, norm = streams[0].merge(streams[1]).descriptor()
    np.testing.assert_allclose(descriptor, wanted.descriptors[0], atol=1e-6)
    np.testing.assert_allclose(norm, wanted.norms[0], rtol=1e-5)
