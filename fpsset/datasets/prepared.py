"""Reads datasets that `configs/prepare.py` made, TFDS folders of ArrayRecord files, without TensorFlow."""

import json
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.data.ijb import Ijb, SearchLists
from fpsset.data.npz import read_npz, write_npz
from fpsset.data.pair_lists import PairList
from fpsset.errors import InputError
from fpsset.runtime.digests import short_digest

_PROTOCOL = "protocol.npz"  # pairs, in the format of `read_pairs`, and 1:N lists
_IMAGES = "images.npz"
_GALLERY_PREFIX = "gallery_"
# Dtypes of the columns that are not int64.
DTYPES = {
    **dict.fromkeys(("embeddings", "norms", "score", "flipped"), np.float32),
    "paths": object,
}
_FIX = "delete the folder and prepare it again"


def is_prepared(folder: pathlib.Path) -> bool:
    """Whether a folder is a prepared dataset, intact or damaged."""
    return (folder / "dataset_info.json").is_file()


class Records:
    """The records of a prepared dataset, by number. Thread-safe, and can be pickled.

    Attributes:
      name: the folder.
      metadata: the metadata that the builder recorded.
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
        try:
            builder = tfds.builder_from_directory(folder)
            (split,) = builder.info.splits.values()
            decoders = {name: tfds.decode.SkipDecoding() for name in encoded}
            self._source = builder.as_data_source(split.name, decoders=decoders or None)
            self._shards = [folder / name for name in sorted(split.filenames)]
            self._ends = np.cumsum(split.shard_lengths)
            self.name, self.metadata = str(folder), dict(builder.info.metadata or {})
        except Exception as error:  # the type depends on which file is damaged
            raise InputError(f"{folder}: cannot be read as a prepared dataset ({error}); {_FIX}") from error

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> dict:
        """Reads a record; raises InputError that names the shard if it is damaged."""
        try:
            return self._source[number]
        except RuntimeError as error:  # raised by ArrayRecord
            raise InputError(f"{self.shard(number)}: is damaged ({error}); {_FIX}") from error

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
    galleries = [_GALLERY_PREFIX + name for name in records.metadata["galleries"]]
    names = [*PairList._fields, *galleries, *(["probes"] if galleries else [])]
    columns = _read_arrays(folder / _PROTOCOL, names)  # the pairs too, so that damage is found now
    search = None
    if galleries:
        lists = {name.removeprefix(_GALLERY_PREFIX): columns[name] for name in galleries}
        search = SearchLists(lists, columns["probes"])
    return Ijb(table, folder / _PROTOCOL, search, records.metadata["note"])


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
        columns = _read_arrays(folder / _IMAGES, ("subject", "media"))
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
        sources = json.dumps(self._records.metadata["sources"])
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
    metadata = records.metadata
    if "columns" not in metadata:
        raise InputError(f"{records.name}: has no features; give a dataset of face_features, ijbb or ijbc")
    columns = {}
    for column in metadata["columns"]:
        shape = (metadata["faces"], *([metadata["dim"]] if column in ("embeddings", "flipped") else []))
        columns[column] = np.empty(shape, DTYPES.get(column, np.int64))
    for record in records:
        for column, values in columns.items():
            values[record["row"]] = np.reshape(record[column], (-1, *values.shape[1:]))
    if "paths" in columns:
        columns["paths"] = np.array([path.decode() for path in columns["paths"]], str)
    return FeatureTable(**columns, backbone=metadata["backbone"], name=records.name)


def _read_arrays(path: pathlib.Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Reads the named arrays of an `.npz` of the dataset; all must be there."""
    try:
        columns = read_npz(path, tuple(names))
        return {name: columns[name] for name in names}
    except (InputError, KeyError) as error:
        raise InputError(f"{path}: is missing or damaged; {_FIX}") from error
