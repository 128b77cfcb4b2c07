"""Packs of images as InsightFace hands them out, a `.rec` and its `.idx`, read without MXNet.

A `.rec` is RecordIO: records of a magic word, a word of the length, the content, and zeros up to a
multiple of four bytes. Where the content holds the magic word itself it is left out, and the record is
continued in parts, which the upper three bits of the length tell. The content is a header (flag, label,
two ids), `flag` more labels where flag > 0, and the encoded image. Records without image are about the
pack: the first may give the number of the first record after the images, and of the end of those; each
of these is a person. The `.idx` has a line `number offset` a record.
"""

import pathlib
import struct
from typing import NamedTuple

import numpy as np

from fpsset.errors import InputError
from fpsset.runtime.digests import short_digest

_MAGIC = 0xCED7230A
_FRAME, _HEADER = 8, 24  # bytes before a record's content, and of the header in it
_FLAG, _LABEL, _MORE_LABELS = 2, 3, 8  # words from a record's start
_LENGTH = (1 << 29) - 1
_LARGEST = 1 << 24  # from here on float32, the labels' type, leaves integers out


class RecordImages:
    """The images of a pack; an `ImageSource`. Files are opened anew for each read: it can be pickled.

    Attributes:
      name: the `.rec` file.
      subject: [M] int64, the images' labels.
      media: [M] int64, one an image: a pack does not tell videos.
    """

    def __init__(self, path: pathlib.Path):
        """Reads the index and every image's label.

        Args:
          path: the `.rec` file; its `.idx` lies beside it.

        Raises:
          InputError: a file is missing, or the index is not of this pack.
        """
        self.name, self._path, self._index = str(path), path, path.with_suffix(".idx")
        for file in (self._path, self._index):
            if not file.is_file():
                raise InputError(f"{file}: no such file; a pack is a .rec and the .idx of its name")
        self._bytes = path.stat().st_size
        numbers, offsets = _read_index(self._index)
        self._check(offsets % 4 == 0, numbers, offsets)
        self._check((0 <= offsets) & (offsets <= self._bytes - _FRAME - _HEADER), numbers, offsets)
        words = np.memmap(path, "<u4", "r", shape=self._bytes // 4)
        places = offsets // 4
        self._check(words[places] == _MAGIC, numbers, offsets)
        flags, lengths = words[places + _FLAG].astype(np.int64), words[places + 1]
        self._check(offsets + _FRAME + (lengths & _LENGTH) <= self._bytes, numbers, offsets)
        is_image = (lengths > _LENGTH) | (lengths > _HEADER + 4 * flags)
        if flags[0] and not is_image[0]:
            promised = int(words[places[0] + _MORE_LABELS].view("<f4")) - 1
            if promised < _LARGEST and promised != is_image.sum():
                raise InputError(
                    f"{self._index}: lists {is_image.sum()} images of {promised}; download it again, or make "
                    "the index anew"
                )
        if not is_image.any():
            raise InputError(f"{path}: holds no image")
        places = places[is_image]
        labels = words[places + np.where(flags[is_image] > 0, _MORE_LABELS, _LABEL)].view("<f4")
        self._numbers, self._offsets = numbers[is_image], offsets[is_image]
        if (odd := ~((labels >= 0) & (labels < _LARGEST) & (labels % 1 == 0))).any():
            row = int(np.argmax(odd))
            raise InputError(f"{self.place(row)}: its label is {labels[row]}, no number of a person")
        self.subject, self.media = labels.astype(np.int64), np.arange(len(labels))

    def __len__(self) -> int:
        return len(self._offsets)

    def read(self, row: int) -> bytes:
        """An encoded image.

        Raises:
          OSError: the file is gone, or has changed since it was opened.
        """
        with self._path.open("rb") as file:
            file.seek(self._offsets[row])
            content, more = _read_part(file)
            while more:
                part, more = _read_part(file)
                content += struct.pack("<I", _MAGIC) + part
        (flag,) = struct.unpack_from("<I", content)
        return content[_HEADER + 4 * flag :]

    def place(self, row: int) -> str:
        """The file and the record's number in its index."""
        return f"{self.name}: record {self._numbers[row]}"

    def fingerprint(self) -> str:
        """A short hash of the index, the labels and the file's size; not of the images' bytes."""
        return short_digest(f"{self._bytes}", self._numbers, self._offsets, self.subject)

    def _check(self, fine: np.ndarray, numbers: np.ndarray, offsets: np.ndarray) -> None:
        if not fine.all():
            row = int(np.argmin(fine))
            raise InputError(
                f"{self._index}: line {row + 1} puts record {numbers[row]} at byte {offsets[row]}, where "
                f"{self._path} ({self._bytes} bytes) holds no whole one; download both again, or make the "
                "index anew"
            )


def _read_index(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and offsets of the records, as the lines of an index give them; numbers rise."""
    rows = []
    with path.open("rb") as lines:
        for count, line in enumerate(lines, 1):
            try:
                number, offset = map(int, line.split())
            except ValueError as error:
                raise InputError(
                    f"{path}: line {count} is no 'number offset'; download it again, or make it anew"
                ) from error
            rows.append((number, offset))
    if not rows:
        raise InputError(f"{path}: is empty; download it again, or make it anew")
    try:
        numbers, offsets = np.array(rows, np.int64).T
    except OverflowError as error:
        raise InputError(f"{path}: holds a number that is too large; download it again") from error
    if (falls := np.diff(numbers) <= 0).any():
        row = int(np.argmax(falls)) + 1
        raise InputError(
            f"{path}: line {row + 1} lists record {numbers[row]} after {numbers[row - 1]}; numbers must "
            "rise: make the index anew"
        )
    return numbers, offsets


class _Part(NamedTuple):
    content: bytes
    more: bool  # the record goes on


def _read_part(file) -> _Part:
    magic, length = struct.unpack("<II", file.read(_FRAME).ljust(_FRAME, b"\0"))
    kind, length = length >> 29, length & _LENGTH
    content = file.read(length)
    if magic != _MAGIC or len(content) < length:
        raise OSError(0, "no whole record is there any more")
    file.seek(-length % 4, 1)
    return _Part(content, kind in (1, 2))
