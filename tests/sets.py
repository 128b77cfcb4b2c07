"""Random face sets for property tests, including degenerate ones."""

import jax
import numpy as np
from hypothesis import strategies as st

from fpsset.face_set import FaceSet

KINDS = ("random", "ties", "all_equal", "zero_norms", "some_zero_norms")
TIED = ("ties", "all_equal", "zero_norms", "equal_norms", "few_norms", "axes")  # scores tie
DESCRIBED = tuple(kind for kind in TIED if kind != "zero_norms")  # those of a descriptor


def make_set(seed: int, size: int, kind: str = "random", dim: int = 16):
    """Embeddings [size, dim], unit float32, and norms [size] float32 of one of KINDS or TIED."""
    rng = np.random.default_rng([seed, size])
    embeddings = rng.standard_normal((size, dim)).astype(np.float32)
    norms = rng.uniform(1.0, 30.0, size).astype(np.float32)
    if kind == "ties":
        source = rng.integers(0, max(1, size // 2), size)
        embeddings, norms = embeddings[source], norms[source]
    elif kind == "all_equal":
        embeddings, norms = np.repeat(embeddings[:1], size, 0), np.repeat(norms[:1], size)
    elif kind == "few_norms":
        norms = rng.integers(1, 4, size).astype(np.float32)
    elif kind in ("equal_norms", "axes"):
        norms = np.full_like(norms, 7)
        if kind == "axes":  # all distances tie as well
            embeddings = np.eye(dim, dtype=np.float32)[rng.integers(0, dim, size)]
    elif kind == "zero_norms":
        norms = np.zeros_like(norms)
    elif kind == "some_zero_norms":
        norms = np.where(rng.random(size) < 0.5, 0, norms).astype(np.float32)
    return embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True), norms


def with_padding(embeddings, norms, seed: int, slots: int, fill=np.nan):
    """Scatters a set over `slots` slots, keeping its order; the others hold `fill`.

    Returns:
      (embeddings [slots, D], norms [slots], mask [slots], places [N], the slot of each face).
    """
    rng = np.random.default_rng(seed)
    places = np.sort(rng.permutation(slots)[: len(norms)])
    padded = np.full((slots, embeddings.shape[1]), fill, np.float32)
    padded_norms = np.full(slots, fill, np.float32)
    mask = np.zeros(slots, bool)
    padded[places], padded_norms[places], mask[places] = embeddings, norms, True
    return padded, padded_norms, mask, places


seeds = st.integers(0, 2**16)
# Few shapes, because each is compiled: one face; fewer faces than picks, as many, and more; a single pick.
sizes = st.sampled_from((1, 2, 3, 5, 33, 64))
coreset_sizes = st.sampled_from((1, 3))
faces_and_picks = st.sampled_from(((1, 3), (3, 3), (33, 3), (64, 3), (2, 1)))
kinds = st.sampled_from(KINDS)
tied_kinds = st.sampled_from(TIED)


def random_posterior(dim: int) -> dict:
    """Parameters of a `PosteriorPooling` in which every term counts."""
    rng = np.random.default_rng(dim)
    params = {
        "gamma": 0.8,
        "quality_direction": 0.01 * rng.standard_normal(dim),
        "quality_power": 0.15,
        "quality_bias": 0.1,
        "sharpness": 8.0,
        "drift": 0.05 * rng.standard_normal((2, dim)),
        "basis": np.eye(dim) + 0.2 * rng.standard_normal((dim, dim)),
        "person_variance": rng.uniform(0.3, 2.0, dim),
        "noise": 0.3,
        "media_power": 0.4,
        "copy_cosine": 0.7,
    }
    return {name: np.asarray(value, np.float32) for name, value in params.items()}


def random_whitening(dim: int) -> dict:
    """Parameters of a `WhitenedMedia` in which every term counts."""
    rng = np.random.default_rng(dim)
    whitening = np.eye(dim) + 0.2 * rng.standard_normal((dim, dim))
    params = {"gamma": 0.8, "power": 1.5, "whitening": whitening}
    return {name: np.asarray(value, np.float32) for name, value in params.items()}


def random_coreset_net(net, dim: int, seed: int = 0) -> dict:
    """Parameters of a `FaceCoresetNet` in which no bias is 0 and no scale 1.

    They are drawn by NumPy, since to compile `init` takes as long as to compile the model.
    """
    sets = FaceSet(*make_set(0, 2, dim=dim), np.ones(2, bool))
    shapes = jax.eval_shape(net.init, jax.random.key(0), sets)["params"]
    rng = np.random.default_rng(seed)

    def draw(leaf):
        center, width = (0.4, 0.3) if leaf.ndim < 3 else (0, dim**-0.5)
        return rng.normal(center, width, leaf.shape).astype(np.float32)

    params = jax.tree.map(draw, shapes)
    return with_quality(params) if net.quality else params


def with_quality(params: dict, power: float = 1.5) -> dict:
    """Replaces the zero-initialised quality parameters of a model by nonzero ones."""
    direction = np.linspace(-0.05, 0.05, len(params["quality_direction"]), dtype=np.float32)
    return params | {"quality_direction": direction, "quality_power": np.float32(power)}
