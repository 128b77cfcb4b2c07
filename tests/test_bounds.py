"""Files and arrays that ask for too much, or give no finite answer, are refused before anything is lost."""

import io
import json
import struct
import zipfile
import zlib

import numpy as np
import pyarrow
import pytest
from click.testing import CliRunner
from PIL import Image
from pyarrow import parquet

import fpsset
from fpsset.commands.verify import verify
from fpsset.data import bounds
from fpsset.data.feature_table import make_table
from fpsset.data.files import read_features, write_features
from fpsset.data.npz import read_npy, read_npz
from fpsset.data.synthetic import make_synthetic
from fpsset.errors import InputError
from fpsset.images.aligned_faces import UnreadableImage, decode_crop, read_face
from fpsset.images.record_pack import RecordImages
from fpsset.inference.out_of_core import BlocksAggregated
from fpsset.weights.cards import AggregatorCard
from tests.packs import MAGIC
from tests.sets import make_set


@pytest.fixture
def little(monkeypatch):
    """Files may ask for at most 100 kB, or 32 times their bytes."""
    monkeypatch.setattr(bounds, "_ALWAYS", 100_000)


def test_an_npz_may_not_become_far_larger_than_it_is(tmp_path, little):
    np.savez_compressed(tmp_path / "f.npz", norms=np.zeros(100_000))
    with pytest.raises(
        InputError, match=r"f\.npz: its arrays want 800,128 bytes, but it has [0-9,]+; at most 32"
    ):
        read_npz(tmp_path / "f.npz")
    assert read_npz(tmp_path / "f.npz", ("media",)) == {}  # what is not read costs nothing
    np.savez(tmp_path / "f.npz", norms=np.zeros(100_000))
    assert len(read_npz(tmp_path / "f.npz")["norms"]) == 100_000


@pytest.mark.parametrize("shape", ["(1000000000,)", "(2,)", "(-4, -1)", "(True,)", "(4.0,)", "[4]"])
def test_a_header_that_does_not_say_what_is_there_is_refused(tmp_path, shape):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    array = np.lib.format.magic(1, 0) + struct.pack("<H", len(text)) + text.encode() + bytes(32)
    (tmp_path / "f.npy").write_bytes(array)
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as file:
        file.writestr("norms.npy", array)
    for read, path in ((read_npz, tmp_path / "f.npz"), (read_npy, tmp_path / "f.npy")):
        with pytest.raises(InputError, match=r"cannot be read as an \.np"):
            read(path)


def test_a_column_is_not_lost_with_a_letter_of_its_name(tmp_path):
    """The directory of a zip has no checksum: a name that is other there would be another column's."""
    write_features(tmp_path / "f.npz", make_synthetic(3, 0, dim=4)[0])
    content = (tmp_path / "f.npz").read_bytes()
    place = content.rindex(b"seed.npy")
    (tmp_path / "f.npz").write_bytes(content[:place] + b"seee.npy" + content[place + 8 :])
    with pytest.raises(InputError, match="differ"):
        read_features(tmp_path / "f.npz")


def test_parquet_may_not_become_far_larger_than_it_is(tmp_path, little):
    rows = 20_000
    columns = {"norms": np.ones(rows), "paths": ["a"] * rows}
    parquet.write_table(pyarrow.table(columns), tmp_path / "f.parquet")
    with pytest.raises(InputError, match=r"f\.parquet: its arrays want [0-9,]+ bytes, but it has [0-9,]+;"):
        read_features(tmp_path / "f.parquet")
    longest = ["a" * 1000, *["b"] * 999]  # NumPy pads text to the longest
    parquet.write_table(pyarrow.table({"paths": longest}), tmp_path / "f.parquet")
    with pytest.raises(InputError, match="its arrays want 4,000,000 bytes"):
        read_features(tmp_path / "f.parquet")


@pytest.mark.parametrize("kind", [pyarrow.string_view(), pyarrow.large_string(), None])
def test_parquet_of_any_kind_of_text_and_any_suffix(tmp_path, kind):
    faces = make_synthetic(3, 0, dim=4)[0]
    paths = pyarrow.array([f"{i % 3}.png" for i in range(len(faces))], kind or pyarrow.string())
    columns = {name: getattr(faces, name).tolist() for name in ("norms", "subject", "media", "embeddings")}
    columns["paths"] = paths.dictionary_encode() if kind is None else paths
    for name in ("f.PARQUET", "f.pq"):
        parquet.write_table(pyarrow.table(columns), tmp_path / name)
        assert read_features(tmp_path / name).paths.tolist() == paths.to_pylist()


def bomb(side: int) -> bytes:
    """A PNG that claims to be `side` pixels square, and has no more than a header."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_an_image_is_judged_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("was decoded"))
    with pytest.raises(UnreadableImage, match="9000 x 9000 pixels, not an aligned crop of 112"):
        decode_crop(bomb(9000), 112)
    for side in (9460, 20_000):
        (tmp_path / "a.png").write_bytes(bomb(side))
        with pytest.raises(UnreadableImage, match="more than 89,478,485"):
            read_face(tmp_path / "a.png", np.zeros((5, 2)))
    with pytest.raises(UnreadableImage, match="more than 89,478,485"):
        decode_crop(bomb(20_000), 112)
    assert io.BytesIO(bomb(9)).read(4) == b"\x89PNG"


@pytest.mark.parametrize("content", [b"", bytes(24), bytes(20) + bytes(4)])
def test_a_record_shorter_than_its_header_is_refused(tmp_path, content):
    for flag in (0, 1, 1 << 31):
        record = MAGIC + struct.pack("<II", 24, flag) + bytes(20)
        (tmp_path / "a.rec").write_bytes(record[: 8 + len(content)].ljust(32, b"\0"))
        (tmp_path / "a.idx").write_text("0\t0\n")
        with pytest.raises(InputError, match=r"a\.(rec|idx): "):
            RecordImages(tmp_path / "a.rec")


def test_a_model_picks_within_bounds():
    for size in (0, 4097, 10**9):
        with pytest.raises(InputError, match=f"the coreset size is {size}; it must be a whole number in 1"):
            fpsset.PlainAggregator(size)
        with pytest.raises(InputError, match="the coreset size is"):
            fpsset.Aggregator({}, AggregatorCard(size, 1, 4, 1.0))
    with pytest.raises(InputError, match="at most 65536"):
        fpsset.StreamingAggregator(fpsset.PlainAggregator(), size=10**9)


def faces(norm: float):
    embeddings, norms = make_set(0, 5, dim=8)
    return embeddings, np.where(np.arange(5) == 3, norm, norms.astype(np.float64))


@pytest.mark.parametrize("norm", [1e20, 3e38, 1e300, np.inf, np.nan, -1.0])
def test_a_norm_without_bounds_is_refused_by_row_everywhere(norm):
    model, (embeddings, norms) = fpsset.PlainAggregator(), faces(norm)
    stream = fpsset.StreamingAggregator(model, size=8).update(embeddings[:3], norms[:3])
    before = stream.descriptor()[0]
    ids = {"subject": np.zeros(5, int), "media": np.zeros(5, int)}
    for use in (
        lambda: model.aggregate(embeddings, norms),
        lambda: model.explain(embeddings, norms),
        lambda: model.pad([embeddings], [norms]),
        lambda: stream.update(embeddings, norms),
        lambda: make_table({"embeddings": embeddings, "norms": norms, **ids}, "F"),
    ):
        with pytest.raises(InputError, match=r"row 3 of 'norms' is (not finite|above|negative)"):
            use()
    with pytest.raises(InputError, match=r"row (0|3) of 'norms'"):
        model.aggregate_blocks([(embeddings, norms)])
    np.testing.assert_array_equal(stream.descriptor()[0], before)  # the stream is as it was
    assert stream.faces == 3


def test_the_largest_norms_give_finite_descriptors(aggregator):
    embeddings, norms = make_set(0, 64)
    for model, scale in ((fpsset.PlainAggregator(), 1e10), (aggregator, 5e9)):
        found = model.aggregate(embeddings, scale * norms / norms.max())
        assert np.isfinite(found.descriptors).all() and np.isfinite(found.norms).all()
    with pytest.raises(InputError, match=r"times the model's norm_scale 2 is above 1e\+10"):
        aggregator.aggregate(embeddings, 9e9 * norms / norms.max())


def test_a_set_without_a_descriptor_is_named(tmp_path):
    model, embeddings = fpsset.PlainAggregator(), np.eye(4, dtype=np.float32)
    with pytest.raises(InputError, match="set b: has no descriptor: its norms are all zero"):
        model.aggregate(embeddings, np.array([1, 1, 0, 0]), np.array(["a", "a", "b", "b"]))
    with pytest.raises(InputError, match="set 0: has no descriptor"):
        model.aggregate(np.stack([embeddings[0], -embeddings[0]]), np.ones(2))  # they cancel out
    with pytest.raises(InputError, match="set of all faces: has no descriptor"):
        fpsset.StreamingAggregator(model).update(embeddings, np.zeros(4)).descriptor()
    with pytest.raises(InputError, match="set of all faces: has no descriptor"):
        assert isinstance(model.aggregate_blocks([(embeddings, np.zeros(4))]), BlocksAggregated)
    with pytest.raises(InputError, match=r"g\.npz: row 1 of 'descriptors' has length zero"):
        model.save_gallery(tmp_path / "g.npz", np.arange(2), np.eye(2, dtype="f") * [[1], [0]], np.ones(2))
    assert not (tmp_path / "g.npz").exists()


def test_a_model_that_overflows_gives_no_descriptor(aggregator, tmp_path):
    params = {**aggregator.variables["params"], "gamma": np.float32(np.nan)}
    params["norm_encoding_scale"] = np.full(16, np.nan, np.float32)
    broken = fpsset.Aggregator(params, aggregator.card)
    with pytest.raises(InputError, match=r"set 0: (its|has no) descriptor"):
        broken.aggregate(*make_set(0, 64))


def test_ids_that_do_not_fit_are_refused_by_row():
    embeddings, norms = make_set(0, 3, dim=4)
    columns = {"embeddings": embeddings, "norms": norms, "media": np.arange(3)}
    ids = np.array([1, 2**63, 2], np.uint64)
    with pytest.raises(InputError, match=r"F: row 1 of 'subject' is 2\^63 or more"):
        make_table({**columns, "subject": ids}, "F")
    assert make_table({**columns, "subject": ids // 4}, "F").subject.tolist() == [0, 2**61, 0]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("threshold", np.float64(np.nan)),
        ("threshold", np.float64(-1)),
        ("size", np.int64(10**9)),
        ("size", np.float64(8)),
        ("growth", np.float64(np.inf)),
        ("faces", np.array([1, 2])),
        ("cover_centers", np.ones((2, 3), np.float32)),
        ("cover_norms", np.full(20, np.nan, np.float32)),
        ("runner_counts", np.array([9, 9, -9])),
        ("sample_faces", np.zeros((1, 8), np.float32)),
        ("pick_scores", np.array(["a", "b", "c"])),
        ("sum_values", np.ones(3, np.float32)),
    ],
)
def test_a_stream_with_impossible_values_is_refused(tmp_path, column, value):
    model, path = fpsset.PlainAggregator(), tmp_path / "s.npz"
    fpsset.StreamingAggregator(model, size=8).update(*make_set(0, 20, dim=8)).save(path)
    with np.load(path) as file:
        columns = {**file, column: value}
    np.savez(path, **columns)
    with pytest.raises(InputError, match=r"s\.npz: ") as error:
        fpsset.StreamingAggregator.load(path, model)
    assert "\n" not in str(error.value)


def test_verify_prints_no_nan(tmp_path, monkeypatch):
    """Sets without a descriptor have no score; there is then one line, and no JSON."""
    model = fpsset.PlainAggregator()
    monkeypatch.setattr("fpsset.inference.loading.load", lambda path: model)
    monkeypatch.setattr("fpsset.evaluation.calibration.read_threshold", lambda *_: None)
    table, _ = make_synthetic(2, 0, dim=8)
    paths = []
    for person, norm in ((0, 1.0), (1, 0.0)):
        one = table.take(table.subject == person)
        write_features(tmp_path / f"{person}.npz", one.with_norm_scale(norm))
        paths.append(str(tmp_path / f"{person}.npz"))
    done = CliRunner().invoke(verify, [*paths, "--model", "plain", "--json"])
    assert isinstance(done.exception, InputError) and "set 1: has no descriptor" in str(done.exception)
    with pytest.raises(json.JSONDecodeError):
        json.loads(done.output)
