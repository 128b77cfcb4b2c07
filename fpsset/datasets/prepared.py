"""Datasets that `configs/prepare.py` made: TFDS folders of ArrayRecord files, read without TensorFlow."""

import json
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np

from fpsset.data.feature_table import FeatureTable
from fpsset.data.files import read_npz
from fpsset.data.ijb import Ijb, SearchLists
from fpsset.data.pair_lists import PairList
from fpsset.errors import InputError
from fpsset.runtime.digests import short_digest

_PROTOCOL = "protocol.npz"  # the pairs as `read_pairs` takes them, and the galleries
_IMAGES = "images.npz"
_GALLERY = "gallery_"
# Of columns that are not int64.
DTYPES = {
    **dict.fromkeys(("embeddings", "norms", "score", "flipped"), np.float32),
    "paths": object,
}
_MEND = "delete the folder and prepare it again"


def is_prepared(folder: pathlib.Path) -> bool:
    """Whether a folder is a prepared dataset, whole or damaged."""
    return (folder / "dataset_info.json").is_file()


class Records:
    """The records of a prepared dataset, by number; several threads may read, and it can be pickled.

    Attributes:
      name: the folder.
      metadata: what the builder noted.
    """

    def __init__(self, folder: pathlib.Path, encoded: tuple[str, ...] = ()):
        """Opens a dataset of one split; features named in `encoded` are left as they are.

        Raises:
          InputError: the folder is damaged, or of something else.
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
        except Exception as error:  # of what kind depends on which of its files is damaged
            raise InputError(f"{folder}: cannot be read as a prepared dataset ({error}); {_MEND}") from error

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> dict:
        """A record; raises InputError that names the shard where it is damaged."""
        try:
            return self._source[number]
        except RuntimeError as error:  # what ArrayRecord raises
            raise InputError(f"{self.shard(number)}: is damaged ({error}); {_MEND}") from error

    def __iter__(self) -> Iterator[dict]:
        return map(self.__getitem__, range(len(self)))

    def shard(self, number: int) -> pathlib.Path:
        """The file that holds a record."""
        return self._shards[np.searchsorted(self._ends, number, side="right")]


def read_prepared(folder: pathlib.Path) -> Ijb:
    """What a dataset was made of, to the last bit and in the same order.

    Raises:
      InputError: the folder is damaged, or holds images.
    """
    records = Records(folder)
    table = _table(records)
    if "galleries" not in records.metadata:
        return Ijb(table, None, None, "")
    galleries = [_GALLERY + name for name in records.metadata["galleries"]]
    names = [*PairList._fields, *galleries, *(["probes"] if galleries else [])]
    columns = _read_beside(folder / _PROTOCOL, names)  # all of it, so that damage shows now
    search = None
    if galleries:
        lists = {name.removeprefix(_GALLERY): columns[name] for name in galleries}
        search = SearchLists(lists, columns["probes"])
    return Ijb(table, folder / _PROTOCOL, search, records.metadata["note"])


def write_protocol(folder: pathlib.Path, pairs: PairList, search: SearchLists | None) -> None:
    """Writes what lies beside the templates of a protocol."""
    columns = pairs._asdict()
    if np.abs(pairs.templates).max() < 1 << 31:
        columns["templates"] = pairs.templates.astype(np.int32)  # 15 million of them
    if search:
        columns |= {_GALLERY + name: rows for name, rows in search.galleries.items()}
        columns["probes"] = search.probes
    np.savez(folder / _PROTOCOL, **columns)


class PreparedImages:
    """Images of a prepared dataset; an `ImageSource`.

    Attributes:
      name: the folder.
      subject: [M] int64, as the source numbered them.
      media: [M] int64.
    """

    def __init__(self, folder: pathlib.Path):
        """Opens a dataset; raises InputError where it is damaged, or holds no images."""
        self._records = Records(folder, encoded=("image",))
        self.name = self._records.name
        if "subjects" not in self._records.metadata:
            raise InputError(f"{folder}: holds no images; give a dataset of webface4m_subset")
        columns = _read_beside(folder / _IMAGES, ("subject", "media"))
        self.subject, self.media = columns["subject"], columns["media"]

    def __len__(self) -> int:
        return len(self._records)

    def read(self, row: int) -> bytes:
        """An encoded image; raises InputError that names the shard where it is damaged."""
        return self._records[row]["image"]

    def place(self, row: int) -> str:
        """The file that holds a record, and the record's number."""
        return f"{self._records.shard(row)}: record {row}"

    def fingerprint(self) -> str:
        """A short hash of what the dataset was made of, and whose the images are; not of their bytes."""
        sources = json.dumps(self._records.metadata["sources"])
        return short_digest(np.stack([self.subject, self.media]), sources)


def write_image_index(folder: pathlib.Path, subject: np.ndarray, media: np.ndarray) -> None:
    """Writes what lies beside the records of images.

    Args:
      folder: of the dataset.
      subject: [M] int64, in the records' order.
      media: [M] int64.
    """
    np.savez(folder / _IMAGES, subject=subject, media=media)


def import_tfds():
    """TensorFlow Datasets; raises InputError where it is not installed."""
    try:
        import array_record  # noqa: F401
        import tensorflow_datasets
    except ImportError as error:
        raise InputError("prepared datasets need TFDS; pip install 'fpsset[datasets]'") from error
    return tensorflow_datasets


def _table(records: Records) -> FeatureTable:
    metadata = records.metadata
    if "columns" not in metadata:
        raise InputError(f"{records.name}: holds no features; give a dataset of face_features, ijbb or ijbc")
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


def _read_beside(path: pathlib.Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The named columns of a file beside the records."""
    try:
        columns = read_npz(path, tuple(names))
        return {name: columns[name] for name in names}
    except (InputError, KeyError) as error:
        raise InputError(f"{path}: is missing or damaged; {_MEND}") from error
