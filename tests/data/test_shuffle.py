"""The shuffle of people is a permutation, and Grain's."""

import grain
import numpy as np
import pytest

from fpsset.data.pipeline import drawn_batches
from fpsset.data.shuffle import ShuffledBatches, permutation


@pytest.mark.parametrize("count", [1, 2, 3, 30, 255, 4000, 65536, 65537, 200_000])
def test_a_pass_is_a_permutation_and_passes_differ(count):
    order = permutation(count, seed=7)
    if count != 65537:  # whose last index Grain's cipher takes for its first
        np.testing.assert_array_equal(np.sort(order), np.arange(count))
    assert count < 30 or (order != permutation(count, seed=8)).mean() > 0.9


@pytest.mark.parametrize("count", [1, 2, 3, 30, 4000, 65537, 200_000])
@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_batches_are_those_of_grain(count, seed):
    size = 17 if count > 3 else 5  # of three passes where there are two
    theirs = grain.MapDataset.range(count).shuffle(seed=seed).repeat().batch(size)
    ours = ShuffledBatches(count, size, seed)
    for number in {0, 1, count // size, count // size + 1, 3 * count // size + 5}:
        np.testing.assert_array_equal(ours[number], theirs[number])


def test_draws_are_those_of_grain():
    """So that runs of earlier versions continue with the batches that they would have drawn."""

    def draw(people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.concatenate([people, rng.integers(0, 1000, 3)])

    theirs = grain.MapDataset.range(30).seed(5).shuffle().repeat().batch(8).random_map(draw)
    ours = drawn_batches(30, 8, 5, draw, grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    for number in range(10):
        np.testing.assert_array_equal(next(ours), theirs[number])
    theirs = iter(theirs.to_iter_dataset())
    theirs.set_state(ours.get_state())
    np.testing.assert_array_equal(next(ours), next(theirs))
