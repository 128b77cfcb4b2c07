"""Synthetic faces as unit vectors: identities on a sphere, stills and clips, quality per image.

Imitates what was measured on real faces: norm and quality rank-correlate at about 0.7, and by norm
quintile the mean cosine to the clean image is about .47, .68, .82, .91, .97. Frames of a clip share
pose, much of their quality and half of their error; poor images drift towards a common direction.
"""

from typing import NamedTuple

import numpy as np

from fpsset.data.feature_table import FeatureTable

# Pearson correlation of two Gaussians whose rank correlation is 0.7.
_CORRELATION = 2 * np.sin(np.pi * 0.7 / 6)
_POSE = 0.35  # share of a clean image's direction that is not identity
_DRIFT = 0.5  # share of a poor image's error that all poor images have in common
_CLIP_QUALITY = 0.6  # share of quality's variance common to a clip


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
      seed: of all draws; the common direction of poor images is the same for every seed.
      dim: D.
      stills: fewest and most stills a person.
      clips: fewest and most clips a person.
      frames: fewest and most frames a clip.

    Returns:
      (FeatureTable whose seeds are its media, [M] float32 cosine of each face to its clean image).
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
    """M synthetic faces, medium after medium."""

    embeddings: np.ndarray  # [M, D] float32 unit rows
    norms: np.ndarray  # [M] float32
    cosine: np.ndarray  # [M] float32, of each face to its clean image


def draw_faces(
    rng: np.random.Generator, media_subject: np.ndarray, length: np.ndarray, people: int, dim: int
) -> Faces:
    """Draws the frames of media.

    Args:
      rng: of all draws.
      media_subject: [media], in 0 ... people - 1.
      length: [media], frames of each; 1 for a still.
      people: number of identities, drawn too.
      dim: D.
    """
    media = np.repeat(np.arange(len(length)), length)
    rows = len(media)

    identity = _directions(rng, people, dim)
    clean = _unit(
        np.sqrt(1 - _POSE) * identity[media_subject] + np.sqrt(_POSE) * _directions(rng, len(length), dim)
    )[media]

    quality = np.sqrt(_CLIP_QUALITY) * rng.standard_normal(len(length))[media] + np.sqrt(
        1 - _CLIP_QUALITY
    ) * rng.standard_normal(rows)
    norm = _CORRELATION * quality + np.sqrt(1 - _CORRELATION**2) * rng.standard_normal(rows)
    norms = np.clip(17 + 4.5 * norm, 1, 40).astype(np.float32)
    cosine = clean_cosine(quality)

    drift = _directions(np.random.default_rng(dim), 1, dim)
    own = _unit(_directions(rng, len(length), dim)[media] + _directions(rng, rows, dim))
    error = np.sqrt(_DRIFT) * drift + np.sqrt(1 - _DRIFT) * own
    error = _unit(error - (error * clean).sum(1, keepdims=True) * clean)
    embeddings = cosine[:, None] * clean + np.sqrt(1 - cosine**2)[:, None] * error
    return Faces(_unit(embeddings).astype(np.float32), norms, cosine.astype(np.float32))


def clean_cosine(quality: np.ndarray) -> np.ndarray:
    """[M] cosine of a face to its clean image, from its quality [M]; fitted to those by norm quintile."""
    return 1 - 0.7488 / (1 + np.exp(5.287 * quality + 2.806))


def _directions(rng, count: int, dim: int) -> np.ndarray:
    return _unit(rng.standard_normal((count, dim)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
