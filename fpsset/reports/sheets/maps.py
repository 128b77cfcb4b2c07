"""Places the faces of a set on a two-dimensional map."""

import warnings

import numpy as np

from fpsset.errors import InputError

_FEWEST = 5  # faces; with fewer, UMAP has no neighbourhoods to preserve

_PCA = "The first two principal components of the embeddings (PCA)."
_UMAP = "UMAP of the cosine distances: nearby faces are similar, distant ones may be too."


def place(embeddings: np.ndarray, kind: str = "pca") -> tuple[np.ndarray, str]:
    """Map positions of the faces, with one scale for both axes.

    Args:
      embeddings: [N, D] unit rows.
      kind: 'pca', or 'umap' (McInnes, Healy and Melville, 2018), seeded; fewer than 5 faces use 'pca'.

    Returns:
      ([N, 2] in [0, 1], a sentence on what the axes are).

    Raises:
      InputError: 'umap' without umap-learn installed.
    """
    learned = kind == "umap" and len(embeddings) >= _FEWEST
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
            warnings.simplefilter("ignore")  # about TensorFlow, which is not needed
            from umap import UMAP
    except ImportError as error:
        raise InputError("--map umap needs umap-learn; pip install 'fpsset[umap]'") from error
    neighbours = min(15, len(embeddings) - 1)
    init = "spectral" if len(embeddings) > 2 * neighbours else "random"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a seed limiting it to one core
        made = UMAP(n_neighbors=neighbours, metric="cosine", init=init, random_state=0)
        return np.asarray(made.fit_transform(embeddings), np.float64)
