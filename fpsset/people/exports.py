"""Writes a store's vectors as what other engines load, for those who outgrow one machine."""

import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from fpsset.errors import InputError, first_line
from fpsset.people.gallery import Gallery
from fpsset.runtime.digests import arrays_digest
from fpsset.runtime.files import read_json, replacing, replacing_folder, write_json

_COLLECTION = "people"
# What a folder of Qdrant's local form holds, and what versions of our collection on a server are called.
_QDRANT_FILES = frozenset(("meta.json", "collection", ".lock"))
_VERSIONS = "fpsset_people_"
_AT_ONCE = 1 << 10
# faiss: lists are compared one by one from this many vectors on; before, a plain product is as fast.
_LISTS_FROM = 1 << 15
_PER_LIST = 39  # vectors that faiss wants for each list it learns


def export_gallery(gallery: Gallery, model: str, engine: str, target: str) -> str:
    """Writes a gallery for an engine; new files are for their owner alone.

    Args:
      gallery: P people.
      model: digest of the model; descriptors of others cannot be compared with these.
      engine: "faiss", "qdrant", "pgvector" or "parquet".
      target: the file or folder to write; for Qdrant also the address of a server.

    Returns:
      What was written, in words.

    Raises:
      InputError: the engine's library is not installed, its server does not answer, or the target holds
        something else.
    """
    writers = {"faiss": _faiss, "qdrant": _qdrant, "pgvector": _pgvector, "parquet": _parquet}
    return writers[engine](gallery, model, target)


def gallery_digest(gallery: Gallery) -> str:
    """Identifies a gallery's names and vectors."""
    return arrays_digest(gallery.names, gallery.starts, gallery.vectors)


def import_faiss():
    """The library faiss; raises InputError if it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise InputError("faiss is not installed; run pip install 'fpsset[ann]'") from error
    return faiss


def side_file(path: pathlib.Path) -> pathlib.Path:
    """Where the names beside a faiss index are."""
    return path.with_name(f"{path.name}.json")


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """[V, D] float32 of unit length."""
    vectors = vectors.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _faiss(gallery: Gallery, model: str, target: str) -> str:
    faiss, path = import_faiss(), pathlib.Path(target)
    count, dim = gallery.vectors.shape
    vectors = unit_vectors(gallery.vectors)
    if count < _LISTS_FROM:
        index = faiss.IndexFlatIP(dim)
    else:
        lists = int(count**0.5)
        index = faiss.index_factory(dim, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
        index.train(vectors[np.random.default_rng(0).permutation(count)[: _PER_LIST * lists]])
    index.add(vectors)
    with replacing(path, private=True) as beside:
        faiss.write_index(index, str(beside))
    about = {"model": model, "gallery": gallery_digest(gallery), "names": gallery.names.tolist()}
    write_json(side_file(path), about | {"starts": gallery.starts.tolist()}, private=True)
    return f"{path}: a faiss index of {count} vectors; their people are in {side_file(path).name}"


def _qdrant(gallery: Gallery, model: str, target: str) -> str:
    try:
        from qdrant_client import QdrantClient, models
    except ImportError as error:
        raise InputError("qdrant-client is not installed; run pip install 'fpsset[qdrant]'") from error

    def fill(client: QdrantClient, collection: str) -> None:
        distance = models.VectorParams(size=gallery.vectors.shape[1], distance=models.Distance.COSINE)
        client.create_collection(collection, vectors_config=distance)
        for rows, names, numbers, vectors in _parts(gallery):
            payloads = [
                {"name": name, "prototype": number, "model": model}
                for name, number in zip(names, numbers, strict=True)
            ]
            batch = models.Batch(ids=list(rows), vectors=vectors.tolist(), payloads=payloads)
            client.upsert(collection, batch)

    if "://" in target:
        try:
            client = QdrantClient(url=target, check_compatibility=False)
            publish(client, gallery_digest(gallery), fill)
            client.close()
        except InputError as error:
            raise InputError(f"{target}: {error}") from error
        except Exception as error:  # of its several libraries for the network
            raise InputError(f"{target}: Qdrant does not take the people ({first_line(error)})") from error
    else:
        path = pathlib.Path(target)
        if path.exists() and not (path.is_dir() and {p.name for p in path.iterdir()} <= _QDRANT_FILES):
            raise InputError(f"{path}: exists, and is no collection of Qdrant; give a new folder")
        with replacing_folder(path) as beside:
            beside.chmod(0o700)
            client = QdrantClient(path=str(beside))
            fill(client, _COLLECTION)
            client.close()
    return f"{target}: the Qdrant collection '{_COLLECTION}' of {len(gallery.vectors)} vectors"


def publish(client, digest: str, fill: Callable) -> None:
    """Fills a new collection on a server and lets the name `people` stand for it, in place of an older one.

    Searches see the older people until the new ones are all there.

    Args:
      client: a QdrantClient.
      digest: of the gallery.
      fill: makes and fills the collection of a name, with the client.

    Raises:
      InputError: there is a collection `people` that fpsset did not make.
    """
    from qdrant_client import models

    held = [one.name for one in client.get_collections().collections]
    if _COLLECTION in held:
        raise InputError(f"has a collection '{_COLLECTION}' that fpsset did not make; rename or remove it")
    new = _VERSIONS + digest
    if new in held:  # the same people, perhaps not all: the connection may have broken
        client.delete_collection(new)
    fill(client, new)
    alias = models.CreateAlias(collection_name=new, alias_name=_COLLECTION)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    for older in held:
        if older.startswith(_VERSIONS) and older != new:
            client.delete_collection(older)


def _pgvector(gallery: Gallery, model: str, target: str) -> str:
    path, dim = pathlib.Path(target), gallery.vectors.shape[1]
    with replacing(path, private=True) as beside, beside.open("w", encoding="utf-8") as file:
        file.write(
            "begin;\ncreate extension if not exists vector;\n"
            f"create table {_COLLECTION} (name text not null, prototype int not null, "
            f"model text not null, vector halfvec({dim}) not null, primary key (name, prototype));\n"
            f"copy {_COLLECTION} (name, prototype, model, vector) from stdin;\n"
        )
        for _, names, numbers, vectors in _parts(gallery):
            for name, number, vector in zip(names, numbers, vectors, strict=True):
                values = ",".join(f"{value:.6g}" for value in vector.tolist())
                file.write(f"{_copy_text(name)}\t{number}\t{model}\t[{values}]\n")
        file.write(f"\\.\ncreate index on {_COLLECTION} using hnsw (vector halfvec_cosine_ops);\ncommit;\n")
    return f"{path}: {len(gallery.vectors)} vectors for psql -f, with pgvector 0.7 or later"


def _parquet(gallery: Gallery, model: str, target: str) -> str:
    from fpsset.data.parquet import import_pyarrow

    path = pathlib.Path(target)
    pyarrow, parquet = import_pyarrow(path)
    numbers = np.arange(len(gallery.vectors)) - gallery.starts[gallery.owners()]
    vectors = unit_vectors(gallery.vectors)
    table = pyarrow.table(
        {
            "name": pyarrow.array(gallery.names[gallery.owners()].tolist()),
            "prototype": pyarrow.array(numbers.astype(np.int32)),
            "vector": pyarrow.FixedSizeListArray.from_arrays(
                pyarrow.array(vectors.reshape(-1)), vectors.shape[1]
            ),
        }
    ).replace_schema_metadata({"fpsset.model": model})
    with replacing(path, private=True) as beside:
        parquet.write_table(table, beside, write_page_checksum=True)
    return f"{path}: {len(vectors)} vectors, with the columns name, prototype and vector"


def _parts(gallery: Gallery) -> Iterator[tuple[range, list[str], list[int], np.ndarray]]:
    """(Numbers of vectors, names of their people, their places in these, [n, D] float32), in parts."""
    owners = gallery.owners()
    for start in range(0, len(owners), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        rows = range(start, start + len(owners[part]))
        numbers = (np.array(rows) - gallery.starts[owners[part]]).tolist()
        yield rows, gallery.names[owners[part]].tolist(), numbers, unit_vectors(gallery.vectors[part])


def _copy_text(text: str) -> str:
    """Text in PostgreSQL's format of COPY."""
    for sign, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(sign, escaped)
    return text


def read_side_file(path: pathlib.Path) -> dict:
    """What is kept beside a faiss index: `model`, `gallery`, `names` and `starts`.

    Raises:
      InputError: there is none, or it is another file.
    """
    side = side_file(path)
    if not path.is_file() or not side.is_file():
        raise InputError(f"{path}: no such index; make one by fpsset people STORE export {path} --to faiss")
    held = read_json(side, "export again")
    if held.keys() != {"model", "gallery", "names", "starts"}:
        raise InputError(f"{side}: is not of an index that fpsset exported; export again")
    return held
