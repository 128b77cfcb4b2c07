"""What tests of the published recipe share: its law, people with images, and a chi-square test."""

import math
from collections.abc import Iterator

import numpy as np

from fpsset.config import published_config
from fpsset.data.feature_table import FeatureTable
from fpsset.training.faces import template_law

OFFICIAL = published_config()
LAW = template_law(OFFICIAL)


def follows(counts, expected) -> bool:
    """Whether counts are what their expected shares make likely, by a chi-square test."""
    from scipy import stats

    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    return stats.chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 0.001


def images_of(people: dict[int, int], frames: int = 3) -> FeatureTable:
    """People with so many images each, and frames of every image."""
    subject = np.repeat(list(people), [count * frames for count in people.values()])
    unit = np.ones((len(subject), 2), np.float32) / math.sqrt(2)
    seed = np.arange(len(subject)) // frames
    return FeatureTable(unit, np.ones(len(subject), np.float32), subject, media=seed, seed=seed)


def take(iterator: Iterator, count: int) -> list:
    """The next items."""
    return [next(iterator) for _ in range(count)]
