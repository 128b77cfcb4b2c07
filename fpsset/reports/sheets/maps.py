"""Faces of a set on a map of two directions."""

import warnings

import numpy as np

from fpsset.errors import InputError

_LEAST = 5  # faces; UMAP has no neighbourhoods to keep in fewer

_PCA = "The two main directions of the embeddings (PCA)."
_UMAP = "UMAP of the cosine distances: near faces are alike, far ones need not be unlike."


def place(embeddings: np.ndarray, kind: str = "pca") -> tuple[np.ndarray, str]:
    """Where each face lies, one scale for both axes.

    Args:
      embeddings: [N, D] unit rows.
      kind: 'pca', or 'umap' (McInnes, Healy and Melville, 2018), seeded; of fewer than 5 faces 'pca'.

    Returns:
      ([N, 2] in [0, 1], what the directions are).

    Raises:
      InputError: umap-learn is missing.
    """
    learned = kind == "umap" and len(embeddings) >= _LEAST
    flat = _umap(embeddings) if learned else _pca(embeddings)
    flat = flat - (flat.max(axis=0) + flat.min(axis=0)) / 2
    return 0.5 + flat / max(2 * np.abs(flat).max(), 1e-9), _UMAP if learned else _PCA


def _pca(embeddings: np.ndarray) -> np.ndarray:
    centered = embeddings - embeddings.mean(axis=0)
    _, vectors = np.linalg.eigh(centered.T @ centered)
    main = vectors[:, :-3:-1]
    main = main * np.sign(main[np.abs(main).argmax(axis=0), np.arange(main.shape[1])])
    return np.pad(centered @ main, ((0, 0), (0, 2 - main.shape[1])))


def _umap(embeddings: np.ndarray) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it tells of TensorFlow, which is not needed
            from umap import UMAP
    except ImportError as error:
        raise InputError("a map by UMAP needs umap-learn; pip install 'fpsset[umap]'") from error
    neighbours = min(15, len(embeddings) - 1)
    init = "spectral" if len(embeddings) > 2 * neighbours else "random"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells that a seed makes it use one core
        made = UMAP(n_neighbors=neighbours, metric="cosine", init=init, random_state=0)
        return np.asarray(made.fit_transform(embeddings), np.float64)
