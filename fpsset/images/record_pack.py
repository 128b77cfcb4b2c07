"""Reads InsightFace's image packs, a `.rec` and its `.idx`, without MXNet.

A `.rec` is in MXNet's RecordIO format. Each record is a magic word, a length word, the content, and zero
padding to a multiple of four bytes. Where the content contains the magic word, the writer drops the word and
splits the record into parts, which the upper three bits of the length mark. The content is a header (flag,
label, two ids), `flag` further labels if flag > 0, and the encoded image. Records without an image describe
the pack: the first record may give the number of the first record after the images and the end of those
records, each of which describes a person. The `.idx` has one line `number offset` per record, in any order.
"""

import pathlib
import struct
from typing import NamedTuple

import numpy as np

from fpsset.errors import InputError
from fpsset.runtime.digests import short_digest

_MAGIC = 0xCED7230A
_FRAME_BYTES, _HEADER_BYTES = 8, 24  # magic and length, then the header of the content
_FLAG, _LABEL, _MORE_LABELS = 2, 3, 8  # offsets in 4-byte words from the start of a record
_LENGTH_MASK = (1 << 29) - 1
_LABEL_LIMIT = 1 << 24  # labels are float32, which cannot represent every integer from here on


class RecordImages:
    """The images of a pack; an `ImageSource`. Opens the file for each read, so that it can be pickled.

    Attributes:
      name: the `.rec` file.
      subject: [M] int64 person ids: the labels of the images.
      media: [M] int64, distinct for each image, because a pack does not record videos.
    """

    def __init__(self, path: pathlib.Path):
        """Reads the index and the label of every image.

        Args:
          path: the `.rec` file, next to its `.idx`.

        Raises:
          InputError: a file is missing, or the index does not match the pack.
        """
        self.name, self._path, self._index = str(path), path, path.with_suffix(".idx")
        for file in (self._path, self._index):
            if not file.is_file():
                raise InputError(f"{file}: no such file; a pack needs a .rec and an .idx of the same name")
        self._bytes = path.stat().st_size
        numbers, offsets = _read_index(self._index)
        self._check(offsets % 4 == 0, numbers, offsets)
        last_start = self._bytes - _FRAME_BYTES - _HEADER_BYTES
        self._check((0 <= offsets) & (offsets <= last_start), numbers, offsets)
        words = np.memmap(path, "<u4", "r", shape=self._bytes // 4)
        starts = offsets // 4
        self._check(words[starts] == _MAGIC, numbers, offsets)
        flags, lengths = words[starts + _FLAG].astype(np.int64), words[starts + 1]
        held = (lengths & _LENGTH_MASK).astype(np.int64)
        self._check(offsets + _FRAME_BYTES + held <= self._bytes, numbers, offsets)
        # The header, and the first of further labels, lie in the first part of every record.
        self._check(held >= _HEADER_BYTES + np.where(flags > 0, 4, 0), numbers, offsets)
        is_image = (lengths > _LENGTH_MASK) | (lengths > _HEADER_BYTES + 4 * flags)
        if flags[0] and not is_image[0]:
            expected = int(words[starts[0] + _MORE_LABELS].view("<f4")) - 1
            if expected < _LABEL_LIMIT and expected != is_image.sum():
                raise InputError(
                    f"{self._index}: lists {is_image.sum()} images, but {path} has {expected}; download the "
                    "index again, or rebuild it"
                )
        if not is_image.any():
            raise InputError(f"{path}: has no images; give another pack")
        starts = starts[is_image]
        labels = words[starts + np.where(flags[is_image] > 0, _MORE_LABELS, _LABEL)].view("<f4")
        self._numbers, self._offsets = numbers[is_image], offsets[is_image]
        if (bad := ~((labels >= 0) & (labels < _LABEL_LIMIT) & (labels % 1 == 0))).any():
            row = int(np.argmax(bad))
            raise InputError(
                f"{self.place(row)}: label {labels[row]} is not an integer id in 0 ... {_LABEL_LIMIT - 1}; "
                "give a pack with one id per person"
            )
        self.subject, self.media = labels.astype(np.int64), np.arange(len(labels))

    def __len__(self) -> int:
        return len(self._offsets)

    def read(self, row: int) -> bytes:
        """Reads an encoded image; raises OSError if the file is missing or has changed."""
        with self._path.open("rb") as file:
            file.seek(self._offsets[row])
            content, more = _read_part(file)
            while more:
                part, more = _read_part(file)
                content += struct.pack("<I", _MAGIC) + part
        if len(content) < _HEADER_BYTES:
            raise _changed()
        (flag,) = struct.unpack_from("<I", content)
        return content[_HEADER_BYTES + 4 * flag :]

    def place(self, row: int) -> str:
        """The file, and the number of the record in the index."""
        return f"{self.name}: record {self._numbers[row]}"

    def fingerprint(self) -> str:
        """A short hash of the index, the labels and the file size, but not of the images' contents."""
        return short_digest(f"{self._bytes}", self._numbers, self._offsets, self.subject)

    def _check(self, valid: np.ndarray, numbers: np.ndarray, offsets: np.ndarray) -> None:
        """Raises InputError that names the first record whose offset is invalid."""
        if not valid.all():
            row = int(np.argmin(valid))
            raise InputError(
                f"{self._index}: puts record {numbers[row]} at byte {offsets[row]}, where "
                f"{self._path} ({self._bytes} bytes) has no whole record; download both again, or rebuild "
                "the index"
            )


def _read_index(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads the numbers and offsets of the records, sorted by number; im2rec shuffles them."""
    rows = []
    with path.open("rb") as lines:
        for count, line in enumerate(lines, 1):
            try:
                number, offset = line.split()
                if not all(word.lstrip(b"-").isdigit() for word in (number, offset)):
                    raise ValueError(line)
                rows.append((int(number), int(offset)))
            except ValueError as error:
                raise InputError(
                    f"{path}: line {count} is not 'number offset'; download it again, or rebuild it"
                ) from error
    if not rows:
        raise InputError(f"{path}: is empty; download it again, or rebuild it")
    try:
        numbers, offsets = np.array(rows, np.int64).T
    except OverflowError as error:
        raise InputError(f"{path}: contains a number that is too large; download it again") from error
    order = np.argsort(numbers, kind="stable")
    if (twice := np.diff(numbers[order]) == 0).any():
        row = int(order[np.argmax(twice) + 1])
        raise InputError(f"{path}: line {row + 1} lists record {numbers[row]} again; rebuild the index")
    return numbers[order], offsets[order]


def _changed() -> OSError:
    return OSError(0, "the file has changed: no whole record is there")


class _Part(NamedTuple):
    content: bytes
    more: bool  # whether another part of the record follows


def _read_part(file) -> _Part:
    magic, length = struct.unpack("<II", file.read(_FRAME_BYTES).ljust(_FRAME_BYTES, b"\0"))
    kind, length = length >> 29, length & _LENGTH_MASK
    content = file.read(length)
    if magic != _MAGIC or len(content) < length:
        raise _changed()
    file.seek(-length % 4, 1)
    return _Part(content, kind in (1, 2))
