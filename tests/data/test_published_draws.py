"""What the published recipe draws, row by row as docs/published.md lists it: people, sizes, clips, epochs."""

import numpy as np

from fpsset.data.pipeline import TemplateSampler, training_batches
from fpsset.data.shuffle import ShuffledBatches
from fpsset.data.synthetic import make_synthetic
from tests.recipe import LAW, follows, images_of, take


def test_an_epoch_is_a_tenth_of_the_images_shuffled_anew():
    batches = ShuffledBatches(800, 40, seed=3, taken=80)
    epochs = [np.concatenate([batches[2 * epoch], batches[2 * epoch + 1]]) for epoch in range(100)]
    assert all(len(set(epoch)) == 80 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 100
    assert follows(np.bincount(np.concatenate(epochs), minlength=800), np.ones(800))
    again = np.intersect1d(epochs[0], epochs[1])  # within two tenths of one pass there would be none
    assert len(again) > 0
    table = images_of({person: 8 for person in range(100)}, frames=1)
    for law, alike in ((LAW, False), (LAW._replace(epoch=1.0), True)):
        labels = np.concatenate([batch.labels for batch in take(training_batches(table, 40, 5, law), 20)])
        assert (np.ptp(np.bincount(labels)) == 0) == alike  # 20 batches are one pass


def test_a_person_weighs_by_its_images():
    people = {0: 1, 1: 2, 2: 5, 3: 12, 4: 20}
    table = images_of(people, frames=1)
    law = LAW._replace(epoch=1.0)
    labels = np.concatenate([batch.labels for batch in take(training_batches(table, 40, 0, law), 100)])
    assert follows(np.bincount(labels), list(people.values()))
    shares = ShuffledBatches(40, 40, 0)[0]
    assert sorted(shares) == list(range(40))  # every image once a pass
    default = take(training_batches(table, 40, 0), 10)
    assert np.ptp(np.bincount(np.concatenate([batch.labels for batch in default]))) <= 1


def test_a_template_takes_any_image_of_its_person():
    sampler = TemplateSampler(images_of({0: 10}), LAW._replace(same_size=1))
    rows, clips, mask = sampler.draw_clips(np.zeros(4000, int), np.random.default_rng(0))
    starts = mask & (np.diff(clips, axis=1, prepend=-1) > 0)
    assert follows(np.bincount(rows[starts] // 3, minlength=10), np.ones(10))


def test_templates_of_a_gpu_share_one_size():
    sampler, rng = TemplateSampler(images_of({0: 10, 1: 10}), LAW), np.random.default_rng(0)
    sizes = np.stack([sampler.draw(np.zeros(40, int), rng)[1].sum(1) for _ in range(1000)])
    sizes = sizes.reshape(1000, 2, 20)
    assert (np.ptp(sizes, axis=2) == 0).all()
    first, second = sizes[:, :, 0].T
    assert follows(np.bincount(np.concatenate([first, second]), minlength=21)[1:], np.ones(20))
    assert abs(np.mean(first == second) - 1 / 20) < 0.03  # GPUs draw apart
    assert TemplateSampler(images_of({0: 9}), LAW).draw(np.zeros(30, int), rng)[1].shape == (30, 20)


def test_clip_lengths_have_the_official_law():
    """min(3, U{1 ... r}), with r the frames that the template still lacks."""
    sampler = TemplateSampler(images_of({0: 50}), LAW._replace(same_size=1))
    _, clips, mask = sampler.draw_clips(np.zeros(20_000, int), np.random.default_rng(0))
    lengths = np.zeros((21, 4))  # by r
    for clip, real in zip(clips, mask, strict=True):
        lacks = real.sum()
        for length in np.bincount(clip[real]):
            lengths[lacks, length] += 1
            lacks -= length
        assert lacks == 0
    assert lengths[:, 0].sum() == 0 and lengths[1, 1] == lengths[1].sum() and lengths[2, 3] == 0
    assert follows(lengths[2, 1:3], [1, 1])
    for r in range(3, 21):
        assert follows(lengths[r, 1:], [1, 1, r - 2]), r


def test_clips_take_no_more_frames_than_there_are():
    sampler = TemplateSampler(images_of({0: 50}, frames=2), LAW._replace(same_size=1))
    rows, clips, mask = sampler.draw_clips(np.zeros(500, int), np.random.default_rng(0))
    for row, clip, real in zip(rows, clips, mask, strict=True):
        assert np.bincount(clip[real]).max() <= 2
        assert all(len(set(row[real & (clip == c)])) == (real & (clip == c)).sum() for c in set(clip[real]))


def test_what_is_drawn_in_200_steps_on_2000_people():
    table, _ = make_synthetic(2000, 0, dim=8)
    sampler, rng = TemplateSampler(table, LAW), np.random.default_rng(0)
    sources, frames = np.unique(table.sources, return_counts=True)
    images = np.bincount(table.subject[np.unique(table.sources, return_index=True)[1]])
    batches = take(training_batches(table, 40, 0, LAW), 200)
    drawn = np.bincount(np.concatenate([batch.labels for batch in batches]), minlength=2000)
    counts = np.unique(images)
    assert follows(
        [drawn[images == count].sum() for count in counts],
        [images[images == count].sum() for count in counts],
    )
    sizes = np.concatenate([batch.face_set.mask.sum(1).reshape(2, 20) for batch in batches])
    assert (np.ptp(sizes, axis=1) == 0).all()
    assert follows(np.bincount(sizes[:, 0], minlength=21)[1:], np.ones(20))
    lengths = np.zeros((21, 4))
    for batch in batches:
        for row, clip, real in zip(*sampler.draw_clips(batch.labels, rng), strict=True):
            lacks = real.sum()
            for length, first in zip(*np.unique(clip[real], return_counts=True)[::-1], strict=True):
                seed = table.sources[row[real][np.searchsorted(clip[real], first)]]
                if frames[np.searchsorted(sources, seed)] >= 3:
                    lengths[lacks, length] += 1
                lacks -= length
    assert lengths.sum() > 10_000
    assert all(follows(lengths[r, 1:], [1, 1, r - 2]) for r in range(3, 21))


def test_draws_do_not_depend_on_how_processes_share_a_batch():
    table = images_of({person: 3 + person for person in range(20)})
    whole = take(training_batches(table, 40, 1, LAW), 3)
    for rows in np.arange(40).reshape(4, 10):
        for part, batch in zip(take(training_batches(table, 40, 1, LAW, rows), 3), whole, strict=True):
            np.testing.assert_array_equal(part.face_set.mask, batch.face_set.mask[rows])
            np.testing.assert_array_equal(part.labels, batch.labels[rows])
