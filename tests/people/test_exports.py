"""Other engines find the same people: faiss and Qdrant in their local forms, and what the files hold."""

import numpy as np
import pytest

from fpsset.errors import InputError
from fpsset.people.exports import export_gallery
from fpsset.people.search import ExactSearch
from tests.people.test_search import DIM, make_gallery, unit


@pytest.fixture(scope="module")
def gallery():
    found = make_gallery(300, 1)
    names = found.names.copy().astype("<U20")
    names[7] = "a\ttab\\and\na line"
    return found._replace(names=names)


@pytest.fixture(scope="module")
def queries():
    return unit(np.random.default_rng(1), 6)


def names_found(gallery, queries, count: int = 3) -> list[list[str]]:
    return gallery.names[ExactSearch(gallery)(queries, count).people].tolist()


def test_faiss(gallery, queries, tmp_path):
    from fpsset.people.approximate import ApproximateSearch

    path = tmp_path / "a.faiss"
    export_gallery(gallery, "0" * 16, "faiss", str(path))
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    found, exact = ApproximateSearch(gallery, path)(queries, 3), ExactSearch(gallery)(queries, 3)
    np.testing.assert_array_equal(found.people, exact.people)
    np.testing.assert_allclose(found.scores, exact.scores, atol=1e-6)
    with pytest.raises(InputError, match="the store has changed since it was exported"):
        ApproximateSearch(make_gallery(300, 1, seed=2), path)
    path.write_bytes(b"none")
    with pytest.raises(InputError, match="cannot be read"):
        ApproximateSearch(gallery, path)
    with pytest.raises(InputError, match="no such index"):
        ApproximateSearch(gallery, tmp_path / "b")


def test_faiss_lists_and_prototypes(queries, tmp_path, monkeypatch):
    from fpsset.people import exports
    from fpsset.people.approximate import ApproximateSearch

    monkeypatch.setattr(exports, "_LISTS_FROM", 100)
    gallery = make_gallery(400, 3)
    exports.export_gallery(gallery, "0" * 16, "faiss", str(tmp_path / "a"))
    exact = ExactSearch(gallery)(queries, 3)
    every = ApproximateSearch(gallery, tmp_path / "a", probed=100)(queries, 3)
    assert (every.people[:, 0] == exact.people[:, 0]).all()
    few = ApproximateSearch(gallery, tmp_path / "a", probed=1)(queries, 3)
    assert (few.scores[:, 0] <= exact.scores[:, 0] + 1e-6).all()


@pytest.mark.filterwarnings("ignore")  # of its libraries
def test_qdrant(gallery, queries, tmp_path):
    import qdrant_client as qdrant

    gallery = gallery._replace(
        names=gallery.names[:50], starts=gallery.starts[:51], vectors=gallery.vectors[:50]
    )
    export_gallery(gallery, "0" * 16, "qdrant", str(tmp_path / "q"))
    assert (tmp_path / "q").stat().st_mode & 0o777 == 0o700
    client = qdrant.QdrantClient(path=str(tmp_path / "q"))
    for query, expected in zip(queries, names_found(gallery, queries), strict=True):
        points = client.query_points("people", query=query.tolist(), limit=3).points
        assert [point.payload["name"] for point in points] == expected
    client.close()


@pytest.mark.filterwarnings("ignore")
def test_a_folder_or_collection_of_others_is_left_alone(gallery, tmp_path):
    import qdrant_client as qdrant

    from fpsset.people.exports import publish

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_text("dear")
    with pytest.raises(InputError, match="is no collection of Qdrant"):
        export_gallery(gallery, "0" * 16, "qdrant", str(tmp_path / "photos"))
    assert (tmp_path / "photos/a.jpg").read_text() == "dear"

    client = qdrant.QdrantClient(":memory:")
    size = qdrant.models.VectorParams(size=2, distance=qdrant.models.Distance.COSINE)

    def fill(client, name):
        client.create_collection(name, vectors_config=size)
        client.upsert(name, [qdrant.models.PointStruct(id=1, vector=[1.0, 0.0], payload={"name": name})])

    for digest in ("aaaa", "bbbb", "bbbb"):
        publish(client, digest, fill)
        point = client.query_points("people", query=[1.0, 0.0]).points[0]
        assert point.payload["name"] == f"fpsset_people_{digest}"
        assert len(client.get_collections().collections) == 1
    client.create_collection("others", vectors_config=size)
    other = qdrant.QdrantClient(":memory:")
    fill(other, "people")
    with pytest.raises(InputError, match="that fpsset did not make"):
        publish(other, "aaaa", fill)
    assert other.query_points("people", query=[1.0, 0.0]).points[0].payload["name"] == "people"


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_does_not_answer(gallery):
    with pytest.raises(InputError, match="Qdrant does not take the people"):
        export_gallery(gallery, "0" * 16, "qdrant", "http://127.0.0.1:9")


def test_pgvector(gallery, queries, tmp_path):
    """The text is read back as PostgreSQL's COPY reads it."""
    export_gallery(gallery, "0" * 16, "pgvector", str(tmp_path / "a.sql"))
    head, _, rest = (tmp_path / "a.sql").read_text().partition("from stdin;\n")
    rows, _, foot = rest.partition("\\.\n")
    assert f"halfvec({DIM})" in head and "hnsw" in foot and foot.endswith("commit;\n")
    cells = [line.split("\t") for line in rows.splitlines()]
    unescaped = [
        cell[0].replace("\\\\", "\0").replace("\\t", "\t").replace("\\n", "\n").replace("\0", "\\")
        for cell in cells
    ]
    assert unescaped == gallery.names.tolist()
    vectors = np.array([cell[3].strip("[]").split(",") for cell in cells], np.float32)
    best = np.argsort(-queries @ vectors.T, axis=1)[:, :3]
    assert gallery.names[best].tolist() == names_found(gallery, queries)


def test_parquet(gallery, queries, tmp_path):
    from pyarrow import parquet as parquet

    export_gallery(gallery, "0" * 16, "parquet", str(tmp_path / "a.parquet"))
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.column("name").to_pylist() == gallery.names.tolist()
    vectors = np.array(table.column("vector").to_pylist(), np.float32)
    best = np.argsort(-queries @ vectors.T, axis=1)[:, :3]
    assert gallery.names[best].tolist() == names_found(gallery, queries)
