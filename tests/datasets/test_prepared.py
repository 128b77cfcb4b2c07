"""Prepared datasets return their source bit for bit, and damage is named."""

import dataclasses
import pickle

import grain
import numpy as np
import pytest

from fpsset.config import base_config, preparation_config
from fpsset.data.feature_table import OPTIONAL, REQUIRED
from fpsset.data.files import write_features
from fpsset.data.simulated_ijb import simulate_ijb
from fpsset.data.synthetic import make_synthetic
from fpsset.datasets.preparation import prepare
from fpsset.datasets.prepared import Records, read_prepared
from fpsset.datasets.sources import evaluation_data, open_images, training_table
from fpsset.errors import InputError
from fpsset.evaluation.identification import identification_metrics, search_galleries
from fpsset.evaluation.protocols import make_protocol
from fpsset.evaluation.scoring import pair_scores
from fpsset.evaluation.verification import verification_metrics
from fpsset.images.image_pipeline import image_batches
from fpsset.inference.descriptors import describe
from fpsset.models.pooling import baselines
from tests.images.images import write_people
from tests.packs import insightface_records, write_pack

COLUMNS = (*REQUIRED, *OPTIONAL)


def make(dataset, source, out, **fields):
    """Prepares a dataset; returns its folder and the message."""
    config = preparation_config()
    config.update(dataset=dataset, source=str(source), out=str(out), **fields)
    done = prepare(config)
    return done.folder, str(done)


def assert_equal_tables(table, other):
    for column in COLUMNS:
        one, two = getattr(table, column), getattr(other, column)
        assert (one is None) == (two is None), column
        if one is not None:
            assert one.dtype == two.dtype, column
            np.testing.assert_array_equal(one, two)
    assert table.backbone == other.backbone and table.fingerprint() == other.fingerprint()


@pytest.fixture(scope="module")
def feature_file(tmp_path_factory):
    """Shuffled faces with every optional column."""
    table, _ = make_synthetic(12, 0, dim=16)
    table = dataclasses.replace(
        table,
        template=table.subject * 2 + table.media % 2,
        paths=np.char.mod("a/%d.png", np.arange(len(table))),
        score=np.linspace(0, 1, len(table), dtype=np.float32),
        flipped=table.embeddings[::-1],
        backbone="abc",
    )
    path = tmp_path_factory.mktemp("features") / "faces.npz"
    write_features(path, table.take(np.random.default_rng(0).permutation(len(table))))
    return path


@pytest.fixture(scope="module")
def ijb(tmp_path_factory):
    """(source folder, prepared folder)."""
    root = tmp_path_factory.mktemp("ijb")
    simulate_ijb(root / "IJBC", "ijbc", 0.01, dim=16)
    return root / "IJBC", make("ijbc", root / "IJBC", root / "datasets")[0]


@pytest.fixture
def people(tmp_path):
    write_people(tmp_path / "people", people=5, each=3)
    return tmp_path / "people"


@pytest.mark.parametrize("records", ["person", "template"])
def test_a_feature_file_is_returned_unchanged(feature_file, tmp_path, records):
    folder, said = make("face_features", feature_file, tmp_path, records=records)
    assert folder == tmp_path / f"face_features/{records}/1.0.0"
    assert said.endswith({"person": ": 12 records", "template": ": 24 records"}[records])
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]
    data = base_config().data
    data.train = data.eval = str(feature_file)
    table, evaluated = training_table(data, 0), evaluation_data(data, 0)
    data.train = data.eval = str(folder)
    assert_equal_tables(training_table(data, 0), table)
    again = evaluation_data(data, 0)
    assert_equal_tables(again.table, evaluated.table)
    assert again[1:] == evaluated[1:] == ("", None, "")
    record = next(iter(Records(folder)))
    size = len(record["norms"])
    assert record["embeddings"].shape == (size, 16) and record["subject"] == table.subject[record["row"]][0]
    assert (table.subject == record["subject"]).sum() >= size


def test_absent_columns_stay_absent(tmp_path):
    write_features(tmp_path / "plain.npz", dataclasses.replace(make_synthetic(4, 0, dim=4)[0], seed=None))
    folder, _ = make("face_features", tmp_path / "plain.npz", tmp_path / "out")
    table = read_prepared(folder).table
    assert table.seed is None and table.template is None and table.paths is None
    with pytest.raises(InputError, match=r"plain\.npz: no column 'template'"):
        make("face_features", tmp_path / "plain.npz", tmp_path / "out", records="template")
    assert not (tmp_path / "out/face_features/template/1.0.0").exists()


def test_ijb_is_returned_unchanged(ijb):
    source, folder = ijb
    data = base_config().data
    data.eval = str(source)
    expected = evaluation_data(data, 0)
    data.eval = str(folder)
    found = evaluation_data(data, 0)
    assert_equal_tables(found.table, expected.table)
    assert found.note == expected.note != ""
    ours, theirs = (make_protocol(x.table, x.pairs_file, x.search) for x in (found, expected))
    for one, two in zip((ours.subjects, *ours.pairs), (theirs.subjects, *theirs.pairs), strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    results = []
    for protocol in (ours, theirs):
        vectors = describe({"media_mean": baselines()["media_mean"]}, {}, protocol.sets)["media_mean"].vectors
        scores = pair_scores(vectors, protocol.pairs)
        verified = verification_metrics(scores, protocol.pairs, protocol.subjects)
        results.append((verified, identification_metrics(search_galleries(vectors, protocol.search))))
    assert results[0] == results[1] and results[0][1].ranks[1].value > 0
    assert list(found.search.galleries) == list(expected.search.galleries)
    for name, rows in expected.search.galleries.items():
        np.testing.assert_array_equal(found.search.galleries[name], rows)
    np.testing.assert_array_equal(found.search.probes, expected.search.probes)


@pytest.mark.parametrize("form", ["folder", "pack"])
def test_images_are_returned_unchanged(people, tmp_path, form):
    source = open_images(people)
    if form == "pack":
        images = [source.read(i) for i in range(15)]
        source = open_images(
            write_pack(tmp_path / "pack", insightface_records(images, source.subject.tolist()))
        )
    path = people if form == "folder" else tmp_path / "pack"
    folder, said = make("webface4m_subset", path, tmp_path / "out", people=3, seed=1)
    assert folder.parent.name == "3_seed1" and said.endswith(": 9 records")
    images = open_images(folder)
    drawn = Records(folder).metadata["subjects"]
    assert sorted(set(images.subject.tolist())) == drawn and len(drawn) == 3
    rows = np.flatnonzero(np.isin(source.subject, drawn))
    np.testing.assert_array_equal(images.subject, source.subject[rows])
    np.testing.assert_array_equal(images.media, source.media[rows])
    assert [images.read(i) for i in range(9)] == [source.read(int(row)) for row in rows]
    assert images.place(4).endswith("array_record-00000-of-00001: record 4")
    again = pickle.loads(pickle.dumps(images))
    assert again.read(8) == images.read(8) and again.fingerprint() == images.fingerprint()
    batch = next(image_batches(images, np.arange(9), 2, seed=0, size=112))
    assert batch.mask[:, 0].all() and batch.images.any()
    other, _ = make("webface4m_subset", path, tmp_path / "out", people=3, seed=2)
    assert Records(other).metadata["subjects"] != drawn


def test_worker_processes_read_records(feature_file, tmp_path):
    records = Records(make("face_features", feature_file, tmp_path)[0])
    dataset = grain.MapDataset.source(records).to_iter_dataset().mp_prefetch(grain.MultiprocessingOptions(1))
    assert [r["subject"] for r in dataset] == [r["subject"] for r in records] == list(range(12))


def test_unreadable_images_are_left_out(people, tmp_path, capsys):
    (people / "person_1/still_0.png").write_bytes(b"\x89PNG")
    folder, said = make("webface4m_subset", people, tmp_path / "out", people=5)
    assert said.endswith(": 14 records") and len(open_images(folder)) == 14
    line = f"{people}/person_1/still_0.png: not a whole image"
    assert line in capsys.readouterr().err
    assert list(Records(folder).metadata["left_out"]) == [f"{people}/person_1/still_0.png"]
    with pytest.raises(InputError, match=r"has 5 people, fewer than 6; give --config\.people=5"):
        make("webface4m_subset", people, tmp_path / "out", people=6)


def _flip(path):
    content = bytearray(path.read_bytes())
    middle = 200  # within the first record
    content[middle : middle + 8] = bytes(255 - byte for byte in content[middle : middle + 8])
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("pattern", "spoil"),
    [
        ("*.array_record*", _flip),
        ("*.array_record*", lambda path: path.write_bytes(path.read_bytes()[:1000])),
        ("*.array_record*", lambda path: path.unlink()),
        ("protocol.npz", _flip),
        ("protocol.npz", lambda path: path.write_bytes(path.read_bytes()[:-100])),
        ("protocol.npz", lambda path: path.unlink()),
        ("dataset_info.json", lambda path: path.write_text("{")),
        ("features.json", lambda path: path.unlink()),
        ("metadata.json", lambda path: path.write_text("[")),
    ],
)
def test_damage_is_named(ijb, tmp_path, pattern, spoil):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in ijb[1].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (path,) = folder.glob(pattern)
    spoil(path)
    with pytest.raises(InputError, match="prepare it again") as error:
        read_prepared(folder)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_dataset_runs_no_code_of_its_own(ijb, tmp_path, monkeypatch, legacy):
    """Neither a module that a folder brings to the path, nor one beside the records."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for path in ijb[1].iterdir():
        if path.name != "checksums.json":
            (folder / path.name).write_bytes(path.read_bytes())
    for place in (tmp_path, folder):
        (place / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(Records(folder))  # the other files of the folder are not imported either
    text = (folder / "features.json").read_text()
    named = text.replace("tensorflow_datasets.core.features.tensor_feature.Tensor", "evil.Tensor", 1)
    if legacy:
        named = '{"type": "evil.Tensor", "content": {}}'
    (folder / "features.json").write_text(named)
    with pytest.raises(InputError, match=r"features\.json: ") as error:
        Records(folder)
    assert ("evil.Tensor" in str(error.value)) != legacy
    assert not (tmp_path / "ran").exists()


def test_images_are_not_read_as_features_nor_features_as_images(feature_file, people, tmp_path):
    features, _ = make("face_features", feature_file, tmp_path)
    images, _ = make("webface4m_subset", people, tmp_path, people=5)
    with pytest.raises(InputError, match="has no features"):
        read_prepared(images)
    with pytest.raises(InputError, match="has no images"):
        open_images(features)
