"""Degrades faces in feature space, by changes measured between images and their degraded copies."""

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
    """Training faces a share of which is rotated, and its norms scaled, as a random degraded copy was.

    Args:
      faces: the training faces, made from `fit`.
      fit: table whose `paths` are row numbers of the file.
      degraded: rows of the file that hold degraded copies.
      seed: of the random draws.
      rate: share of the faces to degrade, in [0, 1].
    """
    changes = jax.device_put(_measured_changes(fit, np.isin(fit.paths, sorted(degraded))))

    @jax.jit
    def degrade(batch: TrainingBatch, step: jax.Array) -> TrainingBatch:
        chosen, drawn = jax.random.split(jax.random.fold_in(jax.random.key(seed), step))
        sets = batch.face_set
        which = jax.random.randint(drawn, sets.mask.shape, 0, len(changes[0]))
        cosine, orthogonal, ratio = (change[which] for change in changes)
        u = sets.embeddings
        orthogonal = orthogonal - jnp.sum(orthogonal * u, axis=-1, keepdims=True) * u
        rotated, _ = normalize(cosine[..., None] * u + orthogonal)
        degrade_here = jax.random.bernoulli(chosen, rate, sets.mask.shape)
        degraded_sets = sets.replace(
            embeddings=jnp.where(degrade_here[..., None], rotated, u),
            norms=jnp.where(degrade_here, ratio * sets.norms, sets.norms),
        )
        return batch._replace(face_set=degraded_sets)

    return dataclasses.replace(faces, to_sets=degrade)


def _measured_changes(fit: FeatureTable, poor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each degraded copy to its image: (cosine [m], orthogonal component [m, D], norm ratio [m])."""
    seeds, source = np.unique(fit.seed[~poor], return_index=True)
    source = np.flatnonzero(~poor)[source]
    copies = np.flatnonzero(poor & np.isin(fit.seed, seeds))
    images = source[np.searchsorted(seeds, fit.seed[copies])]
    u, v = fit.embeddings[images], fit.embeddings[copies]
    cosine = np.einsum("md,md->m", u, v)
    ratio = fit.norms[copies] / np.maximum(fit.norms[images], 1e-6)
    return cosine, v - cosine[:, None] * u, ratio
