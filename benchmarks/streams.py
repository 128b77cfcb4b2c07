"""Streams against the batch: descriptors, verification, the cover's radius, faces a second.

python -m fpsset.main --config configs/quickstart.py --config.data.dim=512 --config.steps=1500 \\
    --workdir runs/streams
python benchmarks/streams.py --model runs/streams [--features FILE.npz --features-model runs/mine]

Simulated video (`video.py`), two streams a person, in batches of 64; `merged` are two halves, each with a
summary of its own. Cosines are to the descriptor of `aggregate`. TAR at FAR 1e-3 compares the descriptors of
streams among themselves, which takes 24 people, and with single frames of the same and of other people.
`radius` is the largest distance of a face to its nearest representative, over the least that M of them could
have as far as is known, and over that of M faces by farthest-point sampling of the whole stream. With
--features the templates of a file are streamed too, by a model of its features.
"""

import argparse
import time
from typing import NamedTuple

import numpy as np
from timing import show
from video import directions, draw_video

import fpsset
from fpsset.data.feature_table import templates
from fpsset.data.files import read_features
from fpsset.evaluation.verification import all_pairs, operating_points
from fpsset.runtime.progress import StepProgress
from fpsset.streaming.k_center import cosines

BATCH, STILLS, FAR = 64, 20, 1e-3
COVERED = 2  # streams whose covers are compared


class Run(NamedTuple):
    """A way to summarise a stream, and what came of it."""

    name: str
    size: int
    growth: float
    merged: bool
    streams: int  # of all, on which it is run
    vectors: list
    cosines: list
    rates: list
    held: list
    ratios: list  # radius over the least possible one's bound
    covers: list  # radius over that of farthest-point sampling


def runs(streams: int) -> list[Run]:
    """The default on all streams, others on a part."""
    part = min(streams, 8)
    kinds = [
        ("default", 256, 1.1, False, streams),
        ("merged", 256, 1.1, True, streams),
        ("growth 2", 256, 2.0, False, part),
        ("M 64", 64, 1.1, False, part),
    ]
    return [Run(*kind, *([] for _ in range(6))) for kind in kinds]


def summarise(model, faces, norms, size: int, growth: float):
    """(The summary of a stream, faces a second)."""
    stream, start = fpsset.StreamingAggregator(model, size, growth), time.perf_counter()
    for row in range(0, len(norms), BATCH):
        stream.update(faces[row : row + BATCH], norms[row : row + BATCH])
    return stream, len(norms) / (time.perf_counter() - start)


def farthest_point_radii(faces: np.ndarray, sizes: set[int]) -> dict[int, float]:
    """Radius of the cover by farthest-point sampling, by its size."""
    distance, found = np.full(len(faces), np.inf, np.float32), {}
    for count in range(max(sizes) + 1):
        if count in sizes:
            found[count] = float(distance.max())
        nearest = cosines(faces[[distance.argmax()]], faces)[0]
        distance = np.minimum(distance, np.sqrt(np.maximum(2 - 2 * nearest, 0)))
    return found


def radius(faces: np.ndarray, centers: np.ndarray) -> float:
    """Of the faces from their nearest center."""
    return float(np.sqrt(max(0.0, 2 - 2 * (faces @ centers.T).max(axis=1).min())))


def tar(left, left_ids, right=None, right_ids=None) -> str:
    """TAR at FAR 1e-3 of all pairs within one set of descriptors or between two; - where impostors lack."""
    if right is None:
        pairs = all_pairs(left_ids)
        scores, same = (left[pairs.first] * left[pairs.second]).sum(axis=1), pairs.same
    else:
        scores, same = (left @ right.T).ravel(), (left_ids[:, None] == right_ids[None]).ravel()
    value = operating_points(scores, same, (FAR,))[0].tar
    return "-" if value is None else f"{value:.3f}"


def simulated(model, people: int, frames: int) -> tuple[list[Run], np.ndarray, tuple]:
    """Runs on simulated streams; (runs, batch descriptors, single frames: vectors and people)."""
    rng, kinds, batch = np.random.default_rng(0), runs(2 * people), []
    identities = directions(rng, people, model.dim)
    with StepProgress(2 * people, 0, 1, "streams", "streams") as progress:
        for number in range(2 * people):
            faces, norms = draw_video(np.random.default_rng([1, number]), identities[number // 2], frames)
            batch.append(model.aggregate(faces, norms).descriptors[0])
            best = farthest_point_radii(faces, {kind.size for kind in kinds}) if number < COVERED else {}
            for kind in kinds:
                if number >= kind.streams:
                    continue
                if kind.merged:
                    half = frames // 2
                    stream, rate = summarise(model, faces[:half], norms[:half], kind.size, kind.growth)
                    stream.merge(summarise(model, faces[half:], norms[half:], kind.size, kind.growth)[0])
                else:
                    stream, rate = summarise(model, faces, norms, kind.size, kind.growth)
                vector = stream.descriptor()[0]
                kind.vectors.append(vector)
                kind.cosines.append(float(vector @ batch[-1]))
                kind.rates.append(rate)
                kind.held.append(len(stream))
                if best:
                    reached = radius(faces, stream._cover.centers)
                    kind.ratios.append(reached / stream.least_radius)
                    kind.covers.append(reached / best[kind.size])
            progress.advance(f"cosine {kinds[0].cosines[-1]:.4f}")
    whose = np.repeat(np.arange(people), STILLS)
    frames = [draw_video(rng, identities[who], 10) for who in whose]
    faces, norms = (np.concatenate([frame[column][:1] for frame in frames]) for column in (0, 1))
    return kinds, np.stack(batch), (model.aggregate(faces, norms, np.arange(len(whose))).descriptors, whose)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--frames", type=int, default=50_000)
    parser.add_argument("--features")
    parser.add_argument("--features-model")
    args = parser.parse_args()
    kinds, batch, stills = simulated(fpsset.load(args.model), args.people, args.frames)
    rows = []
    for kind in kinds:
        vectors, whose, beside = np.stack(kind.vectors), np.arange(kind.streams) // 2, batch[: kind.streams]
        rows.append(
            [
                kind.name,
                f"{kind.streams}",
                *figures(kind.cosines),
                f"{tar(vectors, whose)} ({tar(beside, whose)})",
                f"{tar(vectors, whose, *stills)} ({tar(beside, whose, *stills)})",
                f"{np.median(kind.held):.0f}",
                f"{np.median(kind.ratios):.2f}",
                f"{np.median(kind.covers):.2f}",
                "" if kind.merged else f"{np.median(kind.rates):,.0f}",
            ]
        )
    columns = [
        *("", "streams", "cosine", "5%", "> .99", "TAR (batch)", "to frames", "held", "radius / bound"),
        *("/ cover", "faces/s"),
    ]
    show(f"Streams of {args.frames:,} frames", columns, rows, [])
    if args.features:
        from_file(fpsset.load(args.features_model), args.features)


def figures(cosines) -> list[str]:
    """Median, 5th percentile, and the share above .99."""
    cosines = np.array(cosines)
    return [
        f"{np.median(cosines):.4f}",
        f"{np.percentile(cosines, 5):.4f}",
        f"{(cosines > 0.99).mean():.0%}",
    ]


def from_file(model, path: str) -> None:
    """The table of a file's templates."""
    table = read_features(path)
    ids, subjects, sets = templates(table)
    every = np.arange(len(ids)).repeat(sets.sizes())
    faces, norms = table.embeddings[sets.rows], table.norms[sets.rows]
    batch, rows = model.aggregate(faces, norms, every).descriptors, []
    for size in (256, 16, 8):
        vectors = np.stack(
            [
                summarise(model, faces[start:end], norms[start:end], size, 1.1)[0].descriptor()[0]
                for start, end in zip(sets.starts[:-1], sets.starts[1:], strict=True)
            ]
        )
        cosines = (vectors * batch).sum(axis=1)
        rows.append([f"M {size}", *figures(cosines), f"{tar(vectors, subjects)} ({tar(batch, subjects)})"])
    sizes = sets.sizes()
    title = f"{len(ids)} templates of a file, {sizes.min()} to {sizes.max()} faces"
    show(title, ["", "cosine", "5%", "> .99", "TAR (batch)"], rows, [])


if __name__ == "__main__":
    main()
