"""Tables of faces as records: one a template or a person, its faces in arrays."""

import numpy as np
import tensorflow_datasets as tfds

from fpsset.data.feature_table import OPTIONAL, REQUIRED, FeatureTable
from fpsset.datasets.builders.base import Plan
from fpsset.datasets.prepared import DTYPES

_SHARD_BYTES = 64 << 20  # TFDS holds a shard in memory while it writes it
_IDS = ("media", "template", "seed", "row")


def table_features(key: str) -> tfds.features.FeaturesDict:
    """The features of a record of N faces.

    `subject` int64; `embeddings` [N, D] float32 unit rows; `norms` [N] float32; `media` [N] int64; `row`
    [N] int64, the faces' places in the source; `template` int64 where it is the key, otherwise [N] int64;
    `seed` [N] int64; `paths` [N] str; `score` [N] and `flipped` [N D] float32. What the source does not
    tell is empty.

    Args:
      key: 'template' or 'subject': what a record is one of.
    """
    tensor = tfds.features.Tensor
    features = {name: tensor(shape=(None,), dtype=np.int64, encoding="bytes") for name in _IDS}
    return tfds.features.FeaturesDict(
        {
            **features,
            "embeddings": tensor(shape=(None, None), dtype=np.float32, encoding="bytes"),
            "norms": tensor(shape=(None,), dtype=np.float32, encoding="bytes"),
            "paths": tensor(shape=(None,), dtype=np.str_),
            "score": tensor(shape=(None,), dtype=np.float32, encoding="bytes"),
            "flipped": tensor(shape=(None,), dtype=np.float32, encoding="bytes"),
            "subject": np.int64,
            key: np.int64,
        }
    )


def table_plan(table: FeatureTable, key: str, sources: dict[str, str]) -> Plan:
    """The records of a table, in the order of their keys.

    Args:
      table: its column `key` is there, and the faces of one value show one subject.
      key: 'template' or 'subject'.
      sources: digests of the files it was read from.
    """
    values = getattr(table, key)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=values[order[0]] - 1))
    ends = np.append(starts[1:], len(table))
    columns = {c: getattr(table, c) for c in (*REQUIRED, *OPTIONAL)}
    held = {c: v.astype(DTYPES.get(c, np.int64), copy=False) for c, v in columns.items() if v is not None}
    empty = {c: np.zeros(0, DTYPES.get(c, np.int64)) for c in columns if c not in held}

    def example(number: int) -> dict:
        rows = order[starts[number] : ends[number]]
        faces = {c: v[rows] for c, v in held.items()}
        if "flipped" in faces:  # flat: TFDS knows no empty array of two unknown sizes
            faces["flipped"] = faces["flipped"].reshape(-1)
        return {**empty, **faces, "row": rows, "subject": faces["subject"][0], key: values[rows[0]]}

    # A new shard begins where the faces before fill another one.
    fills = starts * (4 * table.dim) // _SHARD_BYTES
    bounds = [0, *(np.flatnonzero(np.diff(fills)) + 1).tolist(), len(starts)]
    metadata = {
        "sources": sources,
        "faces": len(table),
        "dim": table.dim,
        "columns": sorted(held),
        "backbone": table.backbone,
    }
    return Plan(metadata, bounds, example)
