"""The mean average precision of a search with several mates a probe."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fpsset.evaluation.identification import Search
from fpsset.evaluation.scoring import row_blocks
from fpsset.ops.metric import cosines


class _Ranking(NamedTuple):
    """Ranks the mates of a block of probes, on one device."""

    most: int  # mates that any probe has

    def __call__(self, probes, subjects, templates, entries, entry_subjects, entry_templates):
        """[p, most] int32 ranks of each probe's mates, rising; 0 where it has fewer."""
        scores = cosines(probes, entries)
        same = subjects[:, None] == entry_subjects[None]
        mates = jnp.where(same & (templates[:, None] != entry_templates[None]), scores, -jnp.inf)
        best = jax.lax.top_k(mates, self.most)[0]
        others = jnp.where(same, -jnp.inf, scores)
        before = jax.lax.map(lambda score: (others >= score[:, None]).sum(1), best.T).T
        return jnp.where(best > -jnp.inf, before + 1 + jnp.arange(self.most)[None], 0).astype(jnp.int32)


def mate_ranks(descriptors: np.ndarray, search: Search) -> np.ndarray:
    """Ranks of every mate of every probe in the merged galleries, from 1; ties count against mates.

    A template that is a probe and in a gallery is not its own mate.

    Args:
      descriptors: [T, D] float32 unit rows.
      search: the protocol.

    Returns:
      [P, M] int32, rising in each row; 0 where a probe has fewer than M mates, the most that any has.
    """
    parts = list(search.galleries.values())
    positions, subjects = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    count = len(search.probes.positions)
    codes = np.unique(np.concatenate([search.probes.subjects, subjects]), return_inverse=True)[1]
    held = np.bincount(codes[count:], minlength=codes.max() + 1)
    most = max(1, int(held[codes[:count]].max(initial=0)))
    templates = search.probes.positions.astype(np.int32), positions.astype(np.int32)
    probes = descriptors[search.probes.positions], codes[:count], templates[0]
    entries = descriptors[positions], codes[count:], templates[1]
    ranks = [
        block[: rows.stop - rows.start]
        for rows, block in row_blocks(_Ranking(most), probes, entries, 2 * len(positions))
    ]
    return np.concatenate(ranks)


def average_precision(ranks: np.ndarray) -> np.ndarray:
    """Average precision of each probe, as TinyFace's tools compute it: by trapezoids.

    With the k-th of m mates at rank r, the precision goes from (k - 1) / (r - 1), or 1 where r is 1, to k / r
    while the recall grows by 1 / m; the area under this is the average precision.

    Args:
      ranks: [P, M] int, from `mate_ranks`.

    Returns:
      [P] float64; NaN for probes without a mate.
    """
    found = np.arange(1, ranks.shape[1] + 1)
    there = ranks > 0
    rank = np.where(there, ranks, 1).astype(np.float64)
    before = np.where(rank > 1, (found - 1) / np.maximum(rank - 1, 1), 1.0)
    areas = np.where(there, (before + found / rank) / 2, 0).sum(1)
    mates = there.sum(1)
    return np.where(mates, areas / np.maximum(mates, 1), np.nan)
