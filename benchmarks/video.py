"""Simulated video of one person: clips of frames that are nearly alike, good and bad.

Identities, poses, qualities, norms and errors are those of `fpsset.data.synthetic`. Here a clip has 10 to 400
frames (log-uniform), and what varies within one (quality, norm, half of the error's direction) wanders from
frame to frame with a correlation of .95: one frame and the next have a median cosine of .994, 5% of them
below .94. 50,000 frames are some 500 clips.
"""

import numpy as np

from fpsset.data import synthetic

WANDER = 0.95


def draw_video(rng: np.random.Generator, identity: np.ndarray, frames: int):
    """Draws the frames of a person.

    Args:
      rng: of all draws.
      identity: [D] unit.
      frames: M, of all clips together.

    Returns:
      ([M, D] float32 unit rows, [M] float32 norms).
    """
    lengths = np.exp(rng.uniform(np.log(10), np.log(400), frames // 10)).astype(int)
    ends = np.minimum(np.cumsum(lengths), frames)
    lengths = np.diff(ends[: np.searchsorted(ends, frames) + 1], prepend=0)
    clip, count, dim = np.repeat(np.arange(len(lengths)), lengths), len(lengths), len(identity)

    pose = directions(rng, count, dim)
    clean = unit(np.sqrt(1 - synthetic._POSE) * identity + np.sqrt(synthetic._POSE) * pose)[clip]
    shared, rest = np.sqrt(synthetic._CLIP_QUALITY), np.sqrt(1 - synthetic._CLIP_QUALITY)
    quality = shared * rng.standard_normal(count)[clip] + rest * wander(rng, lengths, 1)[:, 0]
    related, apart = synthetic._CORRELATION, np.sqrt(1 - synthetic._CORRELATION**2)
    norms = np.clip(17 + 4.5 * (related * quality + apart * wander(rng, lengths, 1)[:, 0]), 1, 40)
    cosine = synthetic.clean_cosine(quality)[:, None].astype(np.float32)

    drift = directions(np.random.default_rng(dim), 1, dim)
    own = unit(directions(rng, count, dim)[clip] + unit(wander(rng, lengths, dim)))
    error = np.sqrt(synthetic._DRIFT) * drift + np.sqrt(1 - synthetic._DRIFT) * own
    error = unit(error - (error * clean).sum(axis=1, keepdims=True) * clean)
    faces = cosine * clean + np.sqrt(1 - cosine**2) * error
    return unit(faces).astype(np.float32), norms.astype(np.float32)


def wander(rng: np.random.Generator, lengths: np.ndarray, dim: int) -> np.ndarray:
    """[M, dim] float32 of unit variance that changes slowly within each clip."""
    values = rng.standard_normal((lengths.sum(), dim), np.float32)
    starts = np.cumsum(lengths) - lengths
    for place in range(1, lengths.max()):
        rows = starts[lengths > place] + place
        values[rows] = WANDER * values[rows - 1] + np.sqrt(1 - WANDER**2) * values[rows]
    return values


def directions(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """[count, dim] float32 unit rows of any direction."""
    return unit(rng.standard_normal((count, dim), np.float32))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
