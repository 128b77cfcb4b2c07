"""Writes image packs in MXNet's format."""

import pathlib
import struct
from collections.abc import Iterable, Sequence

MAGIC = struct.pack("<I", 0xCED7230A)


def record(number: int, labels: float | Sequence[float], image: bytes = b"") -> bytes:
    """Encodes a record; several labels go after the header."""
    if isinstance(labels, int | float):
        header = struct.pack("<IfQQ", 0, labels, number, 0)
    else:
        header = struct.pack(f"<IfQQ{len(labels)}f", len(labels), 0, number, 0, *labels)
    return framed(header + image)


def framed(content: bytes) -> bytes:
    """Frames content as RecordIO, which drops magic words at multiples of four bytes and splits there."""
    cuts = [i for i in range(0, len(content) - 3, 4) if content[i : i + 4] == MAGIC]
    starts, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(content)]
    kinds = [1, *[2] * (len(cuts) - 1), 3] if cuts else [0]
    parts = [
        MAGIC + struct.pack("<I", kind << 29 | end - start) + content[start:end]
        for kind, start, end in zip(kinds, starts, ends, strict=True)
    ]
    return b"".join(parts) + b"\0" * (-len(content) % 4)


def insightface_records(images: Sequence[bytes], subject: Sequence[int]) -> list[bytes]:
    """Records of InsightFace's training sets: header, images, people. Subjects must be sorted, from 0."""
    people = sorted(set(subject))
    first = [subject.index(p) + 1 for p in people]
    ranges = zip(first, [*first[1:], len(images) + 1], strict=True)
    records = [record(0, (len(images) + 1, len(images) + 1 + len(people)))]
    records += [record(i + 1, float(subject[i]), image) for i, image in enumerate(images)]
    return records + [record(len(images) + 1 + p, span) for p, span in enumerate(ranges)]


def write_pack(folder: pathlib.Path, records: Iterable[bytes]) -> pathlib.Path:
    """Writes `train.rec` and `train.idx` to a folder; returns the path of `train.rec`."""
    folder.mkdir(parents=True, exist_ok=True)
    records = list(records)
    lines, offset = [], 0
    for number, content in enumerate(records):
        lines.append(f"{number}\t{offset}\n")
        offset += len(content)
    (folder / "train.idx").write_text("".join(lines))
    (folder / "train.rec").write_bytes(b"".join(records))
    return folder / "train.rec"
