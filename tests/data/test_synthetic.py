"""Synthetic faces reproduce the statistics measured on real ones."""

import numpy as np

from fpsset.data.synthetic import make_synthetic


def _ranks(values):
    return np.argsort(np.argsort(values))


def test_norms_follow_the_cosine_to_the_clean_image_as_measured():
    table, cosine = make_synthetic(1500, 0, dim=128)
    correlation = np.corrcoef(_ranks(table.norms), _ranks(cosine))[0, 1]
    assert abs(correlation - 0.7) < 0.03
    quintile = _ranks(table.norms) * 5 // len(table)
    means = [cosine[quintile == q].mean() for q in range(5)]
    np.testing.assert_allclose(means, [0.47, 0.68, 0.82, 0.91, 0.97], atol=0.03)


def test_clean_frames_of_a_clip_agree():
    """Frames of a clip share their clean image, so those close to it are close to each other."""
    table, cosine = make_synthetic(200, 1, dim=256)
    np.testing.assert_allclose(np.linalg.norm(table.embeddings, axis=1), 1, atol=1e-5)
    same = np.flatnonzero(
        (table.media[1:] == table.media[:-1]) & (np.minimum(cosine[1:], cosine[:-1]) > 0.99)
    )
    between = (table.embeddings[same] * table.embeddings[same + 1]).sum(1)
    assert len(same) > 50 and between.min() > 0.95


def test_there_are_stills_and_clips_and_a_seed_repeats_them():
    table, _ = make_synthetic(50, 2, dim=16)
    frames = np.bincount(table.media)
    assert (frames == 1).any() and (frames >= 3).any()
    assert (np.bincount(table.subject) >= 2).all()
    again, _ = make_synthetic(50, 2, dim=16)
    np.testing.assert_array_equal(again.embeddings, table.embeddings)
    other, _ = make_synthetic(50, 3, dim=16)
    assert other.embeddings.shape != table.embeddings.shape or (other.norms != table.norms).any()
