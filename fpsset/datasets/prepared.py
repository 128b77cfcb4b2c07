"""Reads datasets that `configs/prepare.py` made, TFDS folders of ArrayRecord files, without TensorFlow."""

import json
import pathlib
from collections.abc import Iterator

import numpy as np

from fpsset.data.bounds import require_affordable
from fpsset.data.columns import checked_columns
from fpsset.data.feature_table import OPTIONAL, REQUIRED, FeatureTable
from fpsset.data.ijb import Ijb, SearchLists
from fpsset.data.npz import read_npz, write_npz
from fpsset.data.pair_lists import PairList
from fpsset.data.parquet import VECTORS
from fpsset.datasets.trust import FIX, METADATA, require_trusted
from fpsset.errors import InputError, first_line
from fpsset.runtime.digests import short_digest
from fpsset.runtime.files import read_json

_PROTOCOL = "protocol.npz"  # pairs, in the format of `read_pairs`, and 1:N lists
_IMAGES = "images.npz"
_GALLERY_PREFIX = "gallery_"
# Dtypes of the columns that are not int64.
DTYPES = {
    **dict.fromkeys(("embeddings", "norms", "score", "flipped"), np.float32),
    "paths": object,
}


def is_prepared(folder: pathlib.Path) -> bool:
    """Whether a folder is a prepared dataset, intact or damaged."""
    return (folder / "dataset_info.json").is_file()


class Records:
    """The records of a prepared dataset, by number. Thread-safe, and can be pickled.

    Attributes:
      name: the folder.
      metadata: the metadata that the builder recorded.
      bytes: size of all records.
    """

    def __init__(self, folder: pathlib.Path, encoded: tuple[str, ...] = ()):
        """Opens a dataset.

        Args:
          folder: contains a TFDS dataset with a single split.
          encoded: features to return without decoding.

        Raises:
          InputError: the folder is damaged, or contains something else.
        """
        tfds = import_tfds()
        require_trusted(folder)
        try:
            builder = tfds.builder_from_directory(folder)
            (split,) = builder.info.splits.values()
            decoders = {name: tfds.decode.SkipDecoding() for name in encoded}
            self._source = builder.as_data_source(split.name, decoders=decoders or None)
            self._shards = [folder / name for name in sorted(split.filenames)]
            self._ends = np.cumsum(split.shard_lengths)
            self.name, self.metadata = str(folder), read_json(folder / METADATA, FIX)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # the type depends on which file is damaged
            raise InputError(
                f"{folder}: cannot be read as a prepared dataset ({first_line(error)}); {FIX}"
            ) from error

        if missing := [shard for shard in self._shards if not shard.is_file()]:
            raise InputError(f"{missing[0]}: no such file; {FIX}")
        self.bytes = sum(shard.stat().st_size for shard in self._shards)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> dict:
        """Reads a record; raises InputError that names the shard if it is damaged."""
        try:
            return self._source[number]
        except MemoryError:
            raise
        except Exception as error:  # ArrayRecord and TFDS raise many types for damaged records
            raise InputError(f"{self.shard(number)}: is damaged ({first_line(error)}); {FIX}") from error

    def field(self, name: str, kind: type):
        """An entry of the metadata; raises InputError if it is missing or of another kind."""
        value = self.metadata.get(name)
        if type(value) is not kind:
            raise InputError(f"{self.name}/{METADATA}: has no {kind.__name__} '{name}'; {FIX}")
        return value

    def __iter__(self) -> Iterator[dict]:
        return map(self.__getitem__, range(len(self)))

    def shard(self, number: int) -> pathlib.Path:
        """The file that contains a record."""
        return self._shards[np.searchsorted(self._ends, number, side="right")]


def read_prepared(folder: pathlib.Path) -> Ijb:
    """Reads the features and protocol from which a dataset was prepared, bit for bit and in the same order.

    Raises:
      InputError: the folder is damaged, or contains images.
    """
    records = Records(folder)
    table = _read_table(records)
    if "galleries" not in records.metadata:
        return Ijb(table, None, None, "")
    galleries = [_GALLERY_PREFIX + str(name) for name in records.field("galleries", list)]
    lists = {name: f"iu {name}# 2" for name in (*galleries, *(["probes"] if galleries else []))}
    forms = {"templates": "iu P 2", "same": "b P", **lists}
    columns = _read_arrays(folder / _PROTOCOL, forms)  # the pairs too, so that damage is found now
    search = None
    if galleries:
        lists = {name.removeprefix(_GALLERY_PREFIX): columns[name] for name in galleries}
        search = SearchLists(lists, columns["probes"])
    return Ijb(table, folder / _PROTOCOL, search, records.field("note", str))


def write_protocol(folder: pathlib.Path, pairs: PairList, search: SearchLists | None) -> None:
    """Writes the pairs and the 1:N lists of a protocol next to its records."""
    columns = pairs._asdict()
    if np.abs(pairs.templates).max() < 1 << 31:
        columns["templates"] = pairs.templates.astype(np.int32)  # IJB-C has 15 million pairs
    if search:
        columns |= {_GALLERY_PREFIX + name: rows for name, rows in search.galleries.items()}
        columns["probes"] = search.probes
    write_npz(folder / _PROTOCOL, columns)


class PreparedImages:
    """The images of a prepared dataset; an `ImageSource`.

    Attributes:
      name: the folder.
      subject: [M] int64 person ids of the original source.
      media: [M] int64 media ids of the original source.
    """

    def __init__(self, folder: pathlib.Path):
        """Opens a dataset; raises InputError if it is damaged or has no images."""
        self._records = Records(folder, encoded=("image",))
        self.name = self._records.name
        if "subjects" not in self._records.metadata:
            raise InputError(f"{folder}: has no images; give a dataset of webface4m_subset")
        forms = {"subject": "iu M", "media": "iu M"}
        columns = _read_arrays(folder / _IMAGES, forms, M=len(self._records))
        self.subject, self.media = columns["subject"], columns["media"]

    def __len__(self) -> int:
        return len(self._records)

    def read(self, row: int) -> bytes:
        """Reads an encoded image; raises InputError that names the shard if it is damaged."""
        return self._records[row]["image"]

    def place(self, row: int) -> str:
        """The file that contains a record, and the record's number."""
        return f"{self._records.shard(row)}: record {row}"

    def fingerprint(self) -> str:
        """A short hash of the dataset's sources, people and media, but not of the images' contents."""
        sources = json.dumps(self._records.field("sources", dict))
        return short_digest(np.stack([self.subject, self.media]), sources)


def write_image_index(folder: pathlib.Path, subject: np.ndarray, media: np.ndarray) -> None:
    """Writes the people and media of images next to their records.

    Args:
      folder: the dataset.
      subject: [M] int64 person ids, in the order of the records.
      media: [M] int64 media ids.
    """
    write_npz(folder / _IMAGES, {"subject": subject, "media": media})


def import_tfds():
    """Imports TensorFlow Datasets; raises InputError if it is not installed."""
    try:
        import array_record  # noqa: F401
        import tensorflow_datasets
    except ImportError as error:
        raise InputError("prepared datasets need TFDS; pip install 'fpsset[datasets]'") from error
    return tensorflow_datasets


def _read_table(records: Records) -> FeatureTable:
    """Reassembles the source's table, row by row, from the records."""
    if "columns" not in records.metadata:
        raise InputError(f"{records.name}: has no features; give a dataset of face_features, ijbb or ijbc")
    faces, dim, names = records.field("faces", int), records.field("dim", int), records.field("columns", list)
    if faces < 1 or dim < 1 or not set(REQUIRED) <= set(map(str, names)) <= {*REQUIRED, *OPTIONAL}:
        raise InputError(f"{records.name}/{METADATA}: is damaged; {FIX}")
    # Every face takes its embedding in the records, so its columns cannot be much larger than they are.
    require_affordable(faces * (dim + len(names)) * 8, pathlib.Path(records.name), records.bytes)
    wide = {name: (dim,) for name in VECTORS}
    columns = {c: np.empty((faces, *wide.get(c, ())), DTYPES.get(c, np.int64)) for c in names}
    seen = np.zeros(faces, np.int64)
    for number, record in enumerate(records):
        try:
            rows = record["row"]
            np.add.at(seen, rows, 1)
            for column, values in columns.items():
                values[rows] = np.reshape(record[column], (-1, *values.shape[1:]))
        except (LookupError, ValueError, TypeError) as error:
            shard = records.shard(number)
            raise InputError(f"{shard}: is damaged ({first_line(error)}); {FIX}") from error
    if (seen != 1).any():
        raise InputError(f"{records.name}: row {int(np.argmax(seen != 1))} is not in one record; {FIX}")
    if "paths" in columns:
        columns["paths"] = np.array([path.decode(errors="replace") for path in columns["paths"]], str)
    forms = {c: "f M D" if c in VECTORS else "f M" for c in columns if DTYPES.get(c) is np.float32}
    checked_columns(columns, forms, records.name, FIX, M=faces, D=dim)
    return FeatureTable(**columns, backbone=records.field("backbone", str), name=records.name)


def _read_arrays(path: pathlib.Path, forms: dict[str, str], **sizes: int) -> dict[str, np.ndarray]:
    """Reads the named arrays of an `.npz` of the dataset, see `checked_columns`; all must be there."""
    try:
        return checked_columns(read_npz(path, tuple(forms)), forms, str(path), FIX, **sizes)
    except InputError as error:
        raise InputError(f"{path}: is missing or damaged; {FIX}") from error
