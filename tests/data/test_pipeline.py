"""Template sampling and the Grain pipeline."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpsset.data.feature_table import FeatureTable
from fpsset.data.pipeline import TemplateLaw, TemplateSampler, training_batches
from fpsset.data.synthetic import make_synthetic
from tests.sets import seeds


@pytest.fixture(scope="module")
def table():
    return make_synthetic(30, 0, dim=8)[0]


@given(seeds, st.integers(1, 25), st.integers(1, 4))
def test_a_template_shows_one_person_and_fills_its_first_slots(table, seed, max_size, max_clip):
    sampler = TemplateSampler(table, TemplateLaw(max_size, max_clip))
    people = np.random.default_rng(seed).integers(0, 30, 16)
    rows, mask = sampler.draw(people, np.random.default_rng(seed))
    assert rows.shape == mask.shape == (16, max_size)
    assert mask[:, 0].all() and (np.diff(mask.astype(int), axis=1) <= 0).all()
    for person, chosen, real in zip(people, rows, mask, strict=True):
        faces = chosen[real]
        assert (table.subject[faces] == sampler.people[person]).all()


def test_template_sizes_are_uniform_and_every_face_is_drawn(table):
    sampler = TemplateSampler(table)
    rng = np.random.default_rng(0)
    sizes, seen = [], set()
    for _ in range(300):
        rows, mask = sampler.draw(np.arange(30), rng)
        sizes.extend(mask.sum(1))
        seen.update(rows[mask].tolist())
    counts = np.bincount(sizes, minlength=21)[1:]
    assert counts.min() > 0.7 * np.mean(counts) and counts.max() < 1.3 * np.mean(counts)
    assert seen == set(range(len(table)))


def test_clips_have_one_to_three_distinct_frames():
    """With a single seed of many frames, clip lengths show in how often a frame follows its neighbour."""
    table, _ = make_synthetic(4, 0, dim=8, stills=(0, 0), clips=(1, 1), frames=(50, 50))
    sampler = TemplateSampler(table)
    rows, mask = sampler.draw(np.zeros(2000, int), np.random.default_rng(0))
    follows = ((rows[:, 1:] - rows[:, :-1]) % 50 == 1) & mask[:, 1:]
    # The mean length is 2, so half of all steps stay within a clip.
    assert abs(follows.sum() / mask[:, 1:].sum() - 0.51) < 0.02
    assert not ((rows[:, 1:] == rows[:, :-1]) & follows).any()


def test_frames_are_grouped_by_media_if_there_are_no_seeds(table):
    plain = dataclasses.replace(table, seed=None)
    for one, other in zip(
        TemplateSampler(table).draw(np.arange(30), np.random.default_rng(1)),
        TemplateSampler(plain).draw(np.arange(30), np.random.default_rng(1)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


@given(
    seeds,
    st.integers(1, 25),
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=40),
)
def test_templates_of_any_table_stay_within_bounds(seed, max_size, max_clip, faces):
    """No template mixes people, and no clip is too long or repeats a frame."""
    subject, source = np.array(faces).T
    unit = np.ones((len(faces), 1), np.float32)
    table = FeatureTable(unit, unit[:, 0], subject, media=source, seed=source)
    sampler = TemplateSampler(table, TemplateLaw(max_size, max_clip))
    people = np.random.default_rng(seed).integers(0, len(sampler.people), 8)
    rows, clips, mask = sampler.draw_clips(people, np.random.default_rng(seed))
    np.testing.assert_array_equal(sampler.people, np.unique(subject))
    sizes = mask.sum(1)
    assert sizes.min() >= 1 and sizes.max() <= max_size
    for person, chosen, clip, real in zip(people, rows, clips, mask, strict=True):
        assert (subject[chosen[real]] == sampler.people[person]).all()
        for number in np.unique(clip[real]):
            frames = chosen[real & (clip == number)]
            assert len(set(frames)) == len(frames) <= max_clip
            assert len(set(source[frames])) == 1


def _take(iterator, count):
    return [next(iterator) for _ in range(count)]


def test_an_iterator_resumes_where_its_state_was_saved(table):
    straight = _take(training_batches(table, 8, seed=5), 12)
    iterator = training_batches(table, 8, seed=5)
    _take(iterator, 7)
    state = iterator.get_state()
    fresh = training_batches(table, 8, seed=5)
    fresh.set_state(state)
    for one, other in zip(_take(fresh, 5), straight[7:], strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_every_person_comes_once_per_pass_and_draws_differ_between_passes(table):
    batches = _take(training_batches(table, 10, seed=0), 6)
    labels = np.concatenate([b.labels for b in batches])
    assert sorted(labels[:30].tolist()) == sorted(labels[30:].tolist()) == list(range(30))
    assert labels[:30].tolist() != labels[30:].tolist()
    sizes = np.concatenate([b.face_set.mask.sum(1) for b in batches])
    by_person = [sizes[:30][np.argsort(labels[:30])], sizes[30:][np.argsort(labels[30:])]]
    assert (by_person[0] != by_person[1]).mean() > 0.5


def test_the_same_seed_repeats_the_batches_and_another_does_not(table):
    straight, again, other = (_take(training_batches(table, 8, seed=seed), 8) for seed in (5, 5, 6))
    for one, two in zip(straight, again, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, two)
    assert all((one.labels != two.labels).any() for one, two in zip(straight, other, strict=True))


def test_features_may_travel_as_float16(table):
    wide, narrow = (_take(training_batches(table, 8, 5, dtype=d), 2) for d in (np.float32, np.float16))
    for one, two in zip(wide, narrow, strict=True):
        assert two.face_set.embeddings.dtype == np.float16
        np.testing.assert_array_equal(one.face_set.embeddings.astype(np.float16), two.face_set.embeddings)
        np.testing.assert_array_equal(one.face_set.norms, two.face_set.norms)


@pytest.mark.parametrize("count", [2, 4])
def test_each_process_loads_its_rows_of_the_same_batches(table, count):
    """Any number of processes together load what a single one would."""
    straight = _take(training_batches(table, 8, 3), 5)
    for rows in np.arange(8).reshape(count, -1):
        for batch, whole in zip(_take(training_batches(table, 8, 3, rows=rows), 5), straight, strict=True):
            whole = jax.tree.map(lambda array, rows=rows: array[rows], whole)
            jax.tree.map(np.testing.assert_array_equal, batch, whole)
