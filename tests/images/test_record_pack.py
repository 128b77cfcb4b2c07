"""Image packs in MXNet's format are read, and each way to be damaged gives one clear line."""

import multiprocessing
import pickle
import struct

import numpy as np
import pytest

from fpsset.datasets.sources import open_images
from fpsset.errors import InputError
from fpsset.images.image_pipeline import image_batches
from tests.image_source import make_source
from tests.packs import MAGIC, framed, insightface_records, record, write_pack

IMAGES = [b"one", b"four", MAGIC, b"ab" + MAGIC, b"abcd" + MAGIC + MAGIC + b"e", bytes(range(256))]
SUBJECT = [0, 0, 1, 1, 1, 2]


def test_an_insightface_pack_is_read(tmp_path):
    path = write_pack(tmp_path / "faces", insightface_records(IMAGES, SUBJECT))
    for given in (path, tmp_path / "faces"):
        source = open_images(given)
        assert len(source) == 6 and source.subject.tolist() == SUBJECT
        assert len(set(source.media.tolist())) == 6
        assert [source.read(i) for i in range(6)] == IMAGES
        assert source.place(5) == f"{path}: record 6"


def test_test_records_have_the_bytes_of_the_format():
    """RecordIO byte by byte: magic, kind and length, header, image, zeros."""
    assert record(7, 3.0, b"face!") == bytes.fromhex(
        "0a23d7ce 1d000000 00000000 00004040 0700000000000000 0000000000000000 6661636521 000000"
    )
    assert framed(b"abcd" + MAGIC + b"e") == (
        MAGIC + struct.pack("<I", 1 << 29 | 4) + b"abcd" + MAGIC + struct.pack("<I", 3 << 29 | 1) + b"e\0\0\0"
    )


def test_a_pack_without_records_of_people_is_read(tmp_path):
    """Images have several labels, of which the first is the person's, and record 0 is an image."""
    records = [record(i, (float(SUBJECT[i]), 0.5), image) for i, image in enumerate(IMAGES)]
    source = open_images(write_pack(tmp_path, records))
    assert source.subject.tolist() == SUBJECT
    assert [source.read(i) for i in range(6)] == IMAGES


def test_a_shuffled_index_gives_the_same_pack(tmp_path):
    path = write_pack(tmp_path, insightface_records(IMAGES, SUBJECT))
    expected = open_images(path).fingerprint()
    lines = path.with_suffix(".idx").read_text().splitlines()
    path.with_suffix(".idx").write_text("\n".join(np.random.default_rng(0).permutation(lines)))
    source = open_images(path)
    assert [source.read(i) for i in range(6)] == IMAGES and source.subject.tolist() == SUBJECT
    assert source.fingerprint() == expected


def test_the_fingerprint_changes_with_labels_and_offsets(tmp_path):
    prints = set()
    for name, images, subject in (
        ("a", IMAGES, SUBJECT),
        ("b", IMAGES, [0, 0, 0, 1, 1, 2]),
        ("c", IMAGES[:5], SUBJECT[:5]),
    ):
        path = write_pack(tmp_path / name, insightface_records(images, subject))
        assert open_images(path).fingerprint() == open_images(path).fingerprint()
        prints.add(open_images(path).fingerprint())
    assert len(prints) == 3


def test_a_pack_can_be_read_from_other_processes(tmp_path):
    source = open_images(write_pack(tmp_path, insightface_records(IMAGES, SUBJECT)))
    assert pickle.loads(pickle.dumps(source)).read(2) == IMAGES[2]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(source.read, range(6)) == IMAGES


def _edit(line, text):
    def edit(path):
        lines = path.with_suffix(".idx").read_text().splitlines()
        lines[line : line + 1] = [text] if text is not None else []
        path.with_suffix(".idx").write_text("\n".join(lines))

    return edit


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (_edit(3, "3\t99999"), "train.idx: puts record 3 at byte 99999"),
        (_edit(3, "3\t-4"), "train.idx: puts record 3 at byte -4"),
        (_edit(3, "3\t8"), "train.idx: puts record 3 at byte 8, where"),
        (_edit(3, "3\t7"), "puts record 3 at byte 7"),
        (_edit(3, "three\t0"), "train.idx: line 4 is not 'number offset'"),
        (_edit(3, "3"), "line 4 is not 'number offset'"),
        (_edit(3, "4\t0"), "line 5 lists record 4 again"),
        (_edit(3, f"3\t{10**30}"), "too large"),
        (_edit(3, None), "train.rec has 6; download the index again, or rebuild it"),
        (lambda path: path.with_suffix(".idx").write_text(""), "train.idx: is empty"),
        (lambda path: path.with_suffix(".idx").unlink(), "train.idx: no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-60]), "puts record 8 at byte"),
        (lambda path: path.write_bytes(b""), "puts record 0"),
        (
            lambda path: write_pack(path.parent, [record(0, 0.5, b"x")]),
            "record 0: label 0.5 is not",
        ),
        (lambda path: write_pack(path.parent, [record(0, (2.0, 3.0))]), "lists 0 images, but"),
    ],
)
def test_a_damaged_pack_is_refused(tmp_path, spoil, problem):
    path = write_pack(tmp_path, insightface_records(IMAGES, SUBJECT))
    spoil(path)
    with pytest.raises(InputError) as error:
        open_images(tmp_path)
    assert problem in str(error.value)


def test_a_file_that_is_not_a_pack_is_refused(tmp_path):
    (tmp_path / "faces.npz").write_bytes(b"x")
    with pytest.raises(InputError, match="has no images"):
        open_images(tmp_path / "faces.npz")
    with pytest.raises(InputError, match="no such folder"):
        open_images(tmp_path / "none")
    path = write_pack(tmp_path, insightface_records(IMAGES, SUBJECT))
    source = open_images(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(OSError, match="no whole record"):
        source.read(5)


def test_an_undecodable_image_is_named(tmp_path):
    encoded = make_source(people=2, each=2, size=8).encoded
    path = write_pack(tmp_path, insightface_records([*encoded[:3], encoded[3][:40]], [0, 0, 1, 1]))
    batches = image_batches(open_images(path), np.arange(4), 2, seed=0, size=8)
    with pytest.raises(InputError, match=r"train\.rec: record 4: not a whole image"):
        for _ in range(50):
            next(batches)
