"""Poor frames made of embeddings alone: what degraded copies of other people's images did to theirs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.data.pipeline import TrainingBatch
from fpsset.ops.masking import normalize
from fpsset.training.faces import TrainingFaces


def degraded_in_features(
    faces: TrainingFaces, fit: FeatureTable, degraded: set[int], seed: int, rate: float = 0.3
) -> TrainingFaces:
    """Training faces of which a share is turned and shortened as a degraded copy that was measured.

    Args:
      faces: made of `fit`.
      fit: faces whose `paths` are rows of the file.
      degraded: rows of copies.
      seed: of the draws.
      rate: share of the faces.
    """
    turns = jax.device_put(_turns(fit, np.isin(fit.paths, sorted(degraded))))

    @jax.jit
    def degrade(batch: TrainingBatch, step: jax.Array) -> TrainingBatch:
        chosen, drawn = jax.random.split(jax.random.fold_in(jax.random.key(seed), step))
        sets = batch.face_set
        which = jax.random.randint(drawn, sets.mask.shape, 0, len(turns[0]))
        cosine, across, ratio = (turn[which] for turn in turns)
        u = sets.embeddings
        across = across - jnp.sum(across * u, axis=-1, keepdims=True) * u
        turned, _ = normalize(cosine[..., None] * u + across)
        here = jax.random.bernoulli(chosen, rate, sets.mask.shape)
        made = sets.replace(
            embeddings=jnp.where(here[..., None], turned, u),
            norms=jnp.where(here, ratio * sets.norms, sets.norms),
        )
        return batch._replace(face_set=made)

    return dataclasses.replace(faces, to_sets=degrade)


def _turns(fit: FeatureTable, poor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each copy, beside its image: (cosine [m], what is across [m, D], ratio of the norms [m])."""
    seeds, source = np.unique(fit.seed[~poor], return_index=True)
    source = np.flatnonzero(~poor)[source]
    copies = np.flatnonzero(poor & np.isin(fit.seed, seeds))
    images = source[np.searchsorted(seeds, fit.seed[copies])]
    u, v = fit.embeddings[images], fit.embeddings[copies]
    cosine = np.einsum("md,md->m", u, v)
    ratio = fit.norms[copies] / np.maximum(fit.norms[images], 1e-6)
    return cosine, v - cosine[:, None] * u, ratio
