"""Simulates video of one person: clips of nearly identical frames, good and bad.

Identities, poses, image qualities, norms and errors follow `fpsset.data.synthetic`. Here a clip has 10 to 400
frames (log-uniform), and what varies within a clip (image quality, norm, half of the error's direction)
drifts from frame to frame with a correlation of .95: consecutive frames have a median cosine of .994, and 5%
of them are below .94. 50,000 frames make about 500 clips.
"""

import numpy as np

from fpsset.data import synthetic

CORRELATION = 0.95


def draw_video(rng: np.random.Generator, identity: np.ndarray, frames: int):
    """Draws the frames of one person.

    Args:
      rng: source of all randomness.
      identity: [D] unit vector.
      frames: M, the total over all clips.

    Returns:
      ([M, D] float32 unit rows, [M] float32 norms).
    """
    lengths = np.exp(rng.uniform(np.log(10), np.log(400), frames // 10)).astype(int)
    ends = np.minimum(np.cumsum(lengths), frames)
    lengths = np.diff(ends[: np.searchsorted(ends, frames) + 1], prepend=0)
    clip, count, dim = np.repeat(np.arange(len(lengths)), lengths), len(lengths), len(identity)

    pose = random_directions(rng, count, dim)
    clean = unit(np.sqrt(1 - synthetic._POSE) * identity + np.sqrt(synthetic._POSE) * pose)[clip]
    shared, rest = np.sqrt(synthetic._CLIP_SHARE), np.sqrt(1 - synthetic._CLIP_SHARE)
    quality = shared * rng.standard_normal(count)[clip] + rest * drifting_values(rng, lengths, 1)[:, 0]
    related, apart = synthetic._CORRELATION, np.sqrt(1 - synthetic._CORRELATION**2)
    norms = np.clip(17 + 4.5 * (related * quality + apart * drifting_values(rng, lengths, 1)[:, 0]), 1, 40)
    cosine = synthetic.clean_cosine(quality)[:, None].astype(np.float32)

    drift = random_directions(np.random.default_rng(dim), 1, dim)
    own = unit(random_directions(rng, count, dim)[clip] + unit(drifting_values(rng, lengths, dim)))
    error = np.sqrt(synthetic._DRIFT) * drift + np.sqrt(1 - synthetic._DRIFT) * own
    error = unit(error - (error * clean).sum(axis=1, keepdims=True) * clean)
    faces = cosine * clean + np.sqrt(1 - cosine**2) * error
    return unit(faces).astype(np.float32), norms.astype(np.float32)


def drifting_values(rng: np.random.Generator, lengths: np.ndarray, dim: int) -> np.ndarray:
    """Values [M, dim] float32 of unit variance that drift slowly within each clip."""
    values = rng.standard_normal((lengths.sum(), dim), np.float32)
    starts = np.cumsum(lengths) - lengths
    for place in range(1, lengths.max()):
        rows = starts[lengths > place] + place
        values[rows] = CORRELATION * values[rows - 1] + np.sqrt(1 - CORRELATION**2) * values[rows]
    return values


def random_directions(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    """Random unit rows [count, dim] float32, uniform on the sphere."""
    return unit(rng.standard_normal((count, dim), np.float32))


def unit(vectors: np.ndarray) -> np.ndarray:
    """The rows, normalised to unit length."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
