"""A store of 100,000 people with 5 faces each, and searches of it and of a million people.

python benchmarks/people_store.py --train faces_train.npz [--people 100000] [--million 1000000]

People are drawn with the mean and covariance of those of the training file, and faces around them, so that
searches meet vectors like real ones. Enrolment is from a feature table in memory to a store on disk, with the
default model and with the plain one. Searches are by faces of enrolled people; time is the best of the calls
after the first, and beside it the median of the time that all cores together spent on it, because other
programs may be running: on two idle cores a call takes between half of that and all. Recall is the share of
the exact search's best person that the index finds, too.
"""

import argparse
import os
import pathlib
import tempfile
import time

import numpy as np
import timing

import fpsset
from fpsset.data.feature_table import FeatureTable
from fpsset.data.files import read_features
from fpsset.people.gallery import Gallery, read_gallery
from fpsset.people.people import People, names_of
from fpsset.people.search import ExactSearch
from fpsset.people.settings import Settings
from fpsset.people.store import open_store

FACES, SPREAD, CALLS = 5, 1.0, 9


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=pathlib.Path, required=True)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--million", type=int, default=1_000_000)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    options = parser.parse_args()
    train, rng = read_features(options.train), np.random.default_rng(0)
    factor, mean = shape_of(train)
    faces = make_faces(factor, mean, options.people, rng)
    for name, model in (("plain", fpsset.PlainAggregator()), ("posterior", fpsset.fit(options.train))):
        gallery = enrol(name, model, faces, options.folder)
        queries = model.aggregate(faces.embeddings[::FACES][:512], faces.norms[::FACES][:512], np.arange(512))
        search(f"{name}: {options.people:,} people", gallery, queries.descriptors)
    del faces
    vectors = draw(factor, mean, options.million, rng)
    gallery = Gallery(
        np.arange(options.million).astype(str), np.arange(options.million + 1), vectors.astype(np.float16)
    )
    queries = near(vectors[rng.permutation(options.million)[:512]], rng)
    search(f"{options.million:,} people", gallery, queries, pathlib.Path(options.folder, "people.faiss"))


def shape_of(train: FeatureTable) -> tuple[np.ndarray, np.ndarray]:
    """(Square root of the covariance of people's mean faces, their mean)."""
    people, codes = np.unique(train.subject, return_inverse=True)
    sums = np.zeros((len(people), train.dim))
    np.add.at(sums, codes, train.embeddings)
    means = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    values, basis = np.linalg.eigh(np.cov(means.T))
    return (basis * np.sqrt(np.maximum(values, 0))).astype(np.float32), means.mean(0).astype(np.float32)


def draw(factor: np.ndarray, mean: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """[count, D] float32 unit vectors of people."""
    found = np.empty((count, len(mean)), np.float32)
    for start in range(0, count, 1 << 16):
        part = found[start : start + (1 << 16)]
        part[:] = rng.standard_normal(part.shape, np.float32) @ factor.T + mean
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return found


def near(people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[M, D] unit vectors around people's; the cosine to them is about .7."""
    found = people + SPREAD * rng.standard_normal(people.shape, np.float32) / people.shape[1] ** 0.5
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def make_faces(factor, mean, count: int, rng: np.random.Generator) -> FeatureTable:
    """Faces of `count` people, each a medium."""
    vectors = np.repeat(draw(factor, mean, count, rng), FACES, axis=0)
    for start in range(0, len(vectors), 1 << 16):
        vectors[start : start + (1 << 16)] = near(vectors[start : start + (1 << 16)], rng)
    subject = np.repeat(np.arange(count), FACES)
    norms = rng.uniform(1.5, 5, len(vectors)).astype(np.float32)
    return FeatureTable(vectors, norms, subject, np.arange(len(vectors)))


def enrol(name: str, model, faces: FeatureTable, folder: str) -> Gallery:
    """Enrols faces into a new store, and prints the rate and the size."""
    path = pathlib.Path(folder, "people.fps")
    path.unlink(missing_ok=True)
    with open_store(path, create=True) as store:
        people = People(store, model, Settings(faces.dim, "", "", model.digest))
        names = names_of(faces)
        began = time.perf_counter()
        people.enrol(faces, names, "faces")
        seconds = time.perf_counter() - began
        gallery = read_gallery(store)
    size, raw = path.stat().st_size, 2 * faces.embeddings.size
    path.unlink()
    print(
        f"{name}: {len(faces):,} faces of {len(gallery.names):,} people enrolled in {seconds:.1f} s, "
        f"{len(faces) / seconds:,.0f} faces/s; {size / 2**20:.0f} MiB, {size / raw:.3f} of the float16 bytes"
    )
    return gallery


def search(title: str, gallery: Gallery, queries: np.ndarray, index: pathlib.Path | None = None) -> None:
    """Prints the time of searches, exact and by an index."""
    ways, exact = {"exact": ExactSearch(gallery)}, None
    if index:
        from fpsset.people.approximate import ApproximateSearch
        from fpsset.people.exports import export_gallery

        began = time.perf_counter()
        export_gallery(gallery, "0" * 16, "faiss", str(index))
        print(f"faiss index: {time.perf_counter() - began:.0f} s, {index.stat().st_size / 2**20:.0f} MiB")
        ways |= {f"faiss, {lists} lists": ApproximateSearch(gallery, index, lists) for lists in (8, 32, 128)}
        index.unlink()
    rows = []
    for way, run in ways.items():
        found = run(queries, 10).people[:, 0]
        exact = found if exact is None else exact
        cells = []
        for count in (1, 64):
            times, busy = [], []
            for _ in range(CALLS):
                began, used = time.perf_counter(), time.process_time()
                run(queries[:count], 10)
                times.append(time.perf_counter() - began)
                busy.append(time.process_time() - used)
            best = min(times)
            cells += [
                f"{1e3 * best:.1f} ms",
                f"{1e3 * sorted(busy)[CALLS // 2]:.1f} ms",
                f"{count / best:,.0f}",
            ]
        rows.append([way, *cells, f"{(found == exact).mean():.4f}"])
    columns = [
        "",
        "1 query",
        "of all cores",
        "queries/s",
        "64 queries",
        "of all cores",
        "queries/s",
        "recall",
    ]
    memory = f"vectors {4 * gallery.vectors.size / 2**20:.0f} MiB as float32"
    timing.show(title, columns, rows, [f"{memory}; load average {os.getloadavg()[0]:.1f}"])


if __name__ == "__main__":
    main()
