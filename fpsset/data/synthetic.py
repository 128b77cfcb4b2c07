"""Synthetic faces as unit vectors: identities on a sphere, in stills and clips, degraded image by image.

The model imitates measurements on real faces. The norm rank-correlates at about 0.7 with the cosine between
an image and its clean version, whose mean by norm quintile is about .47, .68, .82, .91, .97. Frames of a
clip share their pose, most of their degradation and half of their error, and degraded images drift towards
a common direction.
"""

from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import FeatureTable

# Pearson correlation of two Gaussians whose rank correlation is 0.7.
_CORRELATION = 2 * np.sin(np.pi * 0.7 / 6)
_POSE = 0.35  # share of a clean image's direction that is pose rather than identity
_DRIFT = 0.5  # share of the error that all degraded images have in common
_CLIP_SHARE = 0.6  # share of the variance of cleanness that the frames of a clip have in common


def make_synthetic(
    people: int,
    seed: int,
    dim: int = 512,
    stills: tuple[int, int] = (2, 8),
    clips: tuple[int, int] = (0, 3),
    frames: tuple[int, int] = (3, 8),
) -> tuple[FeatureTable, np.ndarray]:
    """Draws people with stills and clips.

    Args:
      people: number of identities.
      seed: random seed; the common direction of degraded images is the same for every seed.
      dim: D.
      stills: fewest and most stills per person.
      clips: fewest and most clips per person.
      frames: fewest and most frames per clip.

    Returns:
      (FeatureTable whose seeds are its media; [M] float32 cosine between each image and its clean version).
    """
    rng = np.random.default_rng([seed, people, dim])
    still_count = rng.integers(stills[0], stills[1] + 1, people)
    clip_count = rng.integers(clips[0], clips[1] + 1, people)
    media_subject = np.repeat(np.arange(people), still_count + clip_count)
    rank = np.arange(len(media_subject)) - np.repeat(
        np.cumsum(still_count + clip_count) - still_count - clip_count, still_count + clip_count
    )
    is_clip = rank >= still_count[media_subject]
    length = np.where(is_clip, rng.integers(frames[0], frames[1] + 1, len(is_clip)), 1)
    faces = draw_faces(rng, media_subject, length, people, dim)
    media = np.repeat(np.arange(len(length)), length)
    table = FeatureTable(
        embeddings=faces.embeddings,
        norms=faces.norms,
        subject=media_subject[media].astype(np.int64),
        media=media.astype(np.int64),
        seed=media.astype(np.int64),
        name=f"synthetic ({people} people, seed {seed})",
    )
    return table, faces.cosine


class Faces(NamedTuple):
    """M synthetic faces, sorted by medium."""

    embeddings: np.ndarray  # [M, D] float32 unit rows
    norms: np.ndarray  # [M] float32
    cosine: np.ndarray  # [M] float32, between each image and its clean version


def draw_faces(
    rng: np.random.Generator, media_subject: np.ndarray, length: np.ndarray, people: int, dim: int
) -> Faces:
    """Draws identities and the faces in their media.

    Args:
      rng: random generator.
      media_subject: [media] int, the person in each medium, in 0 ... people - 1.
      length: [media] int, frames per medium; 1 for a still.
      people: number of identities.
      dim: D.
    """
    media = np.repeat(np.arange(len(length)), length)
    rows = len(media)

    identity = _directions(rng, people, dim)
    clean = _unit(
        np.sqrt(1 - _POSE) * identity[media_subject] + np.sqrt(_POSE) * _directions(rng, len(length), dim)
    )[media]

    cleanness = np.sqrt(_CLIP_SHARE) * rng.standard_normal(len(length))[media] + np.sqrt(
        1 - _CLIP_SHARE
    ) * rng.standard_normal(rows)
    standard_norms = _CORRELATION * cleanness + np.sqrt(1 - _CORRELATION**2) * rng.standard_normal(rows)
    norms = np.clip(17 + 4.5 * standard_norms, 1, 40).astype(np.float32)
    cosine = clean_cosine(cleanness)

    drift = _directions(np.random.default_rng(dim), 1, dim)
    own_error = _unit(_directions(rng, len(length), dim)[media] + _directions(rng, rows, dim))
    error = np.sqrt(_DRIFT) * drift + np.sqrt(1 - _DRIFT) * own_error
    error = _unit(error - (error * clean).sum(1, keepdims=True) * clean)
    embeddings = cosine[:, None] * clean + np.sqrt(1 - cosine**2)[:, None] * error
    return Faces(_unit(embeddings).astype(np.float32), norms, cosine.astype(np.float32))


def clean_cosine(cleanness: np.ndarray) -> np.ndarray:
    """Cosine between an image and its clean version, fitted to the measured means by norm quintile.

    Args:
      cleanness: [M] standard normal; higher means less degraded.

    Returns:
      [M] cosines, which rise with cleanness.
    """
    return 1 - 0.7488 / (1 + np.exp(5.287 * cleanness + 2.806))


def _directions(rng, count: int, dim: int) -> np.ndarray:
    return _unit(rng.standard_normal((count, dim)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
