"""Feature tables as TFDS records, one per template or per person, with its faces in arrays."""

import numpy as np
import tensorflow_datasets as tfds

from fpsset.data.feature_table import OPTIONAL, REQUIRED, FeatureTable
from fpsset.datasets.builders.base import Plan
from fpsset.datasets.prepared import DTYPES

_SHARD_BYTES = 64 << 20  # TFDS keeps a shard in memory while writing it
_IDS = ("media", "template", "seed", "row")


def table_features(key: str) -> tfds.features.FeaturesDict:
    """The TFDS features of a record of N faces.

    `subject` int64; `embeddings` [N, D] float32 unit rows; `norms` [N] float32; `media` [N] int64; `row`
    [N] int64, the rows of the faces in the source; `template` int64 if it is the key, otherwise [N] int64;
    `seed` [N] int64; `paths` [N] str; `score` [N] and `flipped` [N D] float32. Columns that the source lacks
    are empty.

    Args:
      key: 'template' or 'subject': there is one record for each of its values.
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
    """Plans the records of a table, sorted by their keys.

    Args:
      table: has the column `key`; faces with the same key show the same subject.
      key: 'template' or 'subject'.
      sources: digests of the files that the table was read from.
    """
    values = getattr(table, key)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=values[order[0]] - 1))
    ends = np.append(starts[1:], len(table))
    columns = {c: getattr(table, c) for c in (*REQUIRED, *OPTIONAL)}
    present = {c: v.astype(DTYPES.get(c, np.int64), copy=False) for c, v in columns.items() if v is not None}
    absent = {c: np.zeros(0, DTYPES.get(c, np.int64)) for c in columns if c not in present}

    def example(number: int) -> dict:
        rows = order[starts[number] : ends[number]]
        faces = {c: v[rows] for c, v in present.items()}
        if "flipped" in faces:  # flat, because TFDS cannot store an empty array with two unknown dimensions
            faces["flipped"] = faces["flipped"].reshape(-1)
        return {**absent, **faces, "row": rows, "subject": faces["subject"][0], key: values[rows[0]]}

    # A new shard begins whenever the preceding faces have filled another one.
    shard = starts * (4 * table.dim) // _SHARD_BYTES
    bounds = [0, *(np.flatnonzero(np.diff(shard)) + 1).tolist(), len(starts)]
    metadata = {
        "sources": sources,
        "faces": len(table),
        "dim": table.dim,
        "columns": sorted(present),
        "backbone": table.backbone,
    }
    return Plan(metadata, bounds, example)
